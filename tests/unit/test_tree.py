"""Immutable trees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.artifact.tree import BlobMissing, File, Tree, TreeError, split
from tests.unit.blobs import MemoryBlobs, tree_of

FILES = {"a.yaml": b"a", "apps/web/b.yaml": b"b", "apps/web/c.yaml": b"c", "apps-2/d.yaml": b"d"}


def test_a_tree_lists_and_walks_sorted() -> None:
    """Directories list their names, walks give files, both in order."""
    tree, _ = tree_of(FILES)
    assert tree.list() == [("a.yaml", "file"), ("apps", "dir"), ("apps-2", "dir")]
    assert tree.list("./apps/web/") == [("b.yaml", "file"), ("c.yaml", "file")]
    walked = [path for path, _ in tree.walk()]
    assert walked == ["a.yaml", "apps/web/b.yaml", "apps/web/c.yaml", "apps-2/d.yaml"]
    assert [path for path, _ in tree.walk("./apps")] == ["apps/web/b.yaml", "apps/web/c.yaml"]
    assert tree.is_dir("apps")
    assert tree.is_dir("")
    assert not tree.is_dir("a.yaml")
    assert tree.file("apps/web/b.yaml") is not None
    assert tree.file("apps") is None
    assert tree.file("a.yaml/x") is None


def test_absent_directories_raise() -> None:
    """Digest, list and walk of what is no directory raise KeyError."""
    tree, _ = tree_of(FILES)
    for path in ("nowhere", "a.yaml", "apps/web/b.yaml/x"):
        with pytest.raises(KeyError):
            tree.digest(path)
        with pytest.raises(KeyError):
            tree.list(path)
        with pytest.raises(KeyError):
            tree.walk(path)


def test_a_digest_changes_only_on_the_way_to_the_change() -> None:
    """A changed file changes its directories' digests and no others."""
    before, _ = tree_of(FILES)
    after, _ = tree_of({**FILES, "apps/web/c.yaml": b"new"})
    assert before.digest() != after.digest()
    assert before.digest("apps/web") != after.digest("apps/web")
    assert before.digest("apps-2") == after.digest("apps-2")


@pytest.mark.parametrize(
    "other",
    [
        File("0" * 40, 1, executable=True),
        File("0" * 40, 1, link="x"),
        File("1" * 40, 1),
    ],
)
def test_a_digest_covers_ids_and_modes(other: File) -> None:
    """Another id, mode or kind of file gives another digest (S7)."""
    blobs = MemoryBlobs()
    plain = Tree.build({"a": File("0" * 40, 1)}, blobs)
    assert plain.digest() != Tree.build({"a": other}, blobs).digest()
    assert plain.digest() != Tree.build({"b": File("0" * 40, 1)}, blobs).digest()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a/..", "a\0b"])
def test_paths_that_leave_the_tree_are_refused(path: str) -> None:
    """No spelling of a path leads out of a tree (S1)."""
    tree, blobs = tree_of(FILES)
    for call in (tree.file, tree.is_dir, tree.digest, tree.list, tree.walk):
        with pytest.raises(TreeError):
            call(path)
    with pytest.raises(TreeError):
        Tree.build({path: File("0" * 40, 1)}, blobs)


@given(st.text(alphabet="ab./\\\0 ~%", max_size=24))
def test_every_spelling_stays_inside_or_is_refused(path: str) -> None:
    """Any text is refused or names something below the root (S1)."""
    try:
        parts = split(path)
    except TreeError:
        return
    assert not path.startswith("/")
    assert all(part not in ("", ".", "..") and "/" not in part and "\0" not in part for part in parts)


def test_a_name_cannot_be_a_file_and_a_directory() -> None:
    """Hostile listings with one name for two things are refused."""
    file = File("0" * 40, 1)
    for files in ({"a": file, "a/b": file}, {"a/b": file, "a": file}):
        with pytest.raises(TreeError):
            Tree.build(files, MemoryBlobs())


async def test_reading_gives_contents_and_asks_once() -> None:
    """Several files with equal contents are one question to the reader."""
    tree, blobs = tree_of({"a": b"same", "b": b"same", "c": b"other"})
    assert await tree.read(["a", "b", "c"]) == {"a": b"same", "b": b"same", "c": b"other"}
    assert blobs.reads == 1


async def test_reading_what_is_no_file_fails() -> None:
    """Absent files, links and files over the limit are refused, each in its way (S2, S10)."""
    blobs = MemoryBlobs()
    file = blobs.add(b"0123456789")
    tree = Tree.build({"a": file, "l": replace(file, link="../a"), "d/x": File("f" * 40, 1)}, blobs)
    with pytest.raises(KeyError):
        await tree.read(["d"])
    with pytest.raises(TreeError, match="symbolic link"):
        await tree.read(["l"])
    with pytest.raises(TreeError, match="limit of 9"):
        await tree.read(["a"], limit=9)
    assert await tree.read(["a"], limit=10) == {"a": b"0123456789"}
    with pytest.raises(BlobMissing):
        await tree.read(["d/x"])


def test_a_rebound_tree_is_the_same_tree() -> None:
    """Another reader changes nothing about names and digests."""
    tree, _ = tree_of(FILES)
    other = tree.rebind(MemoryBlobs())
    assert other.digest() == tree.digest()
    assert list(other.walk()) == list(tree.walk())


def test_a_deep_tree_is_built() -> None:
    """Depth is no recursion."""
    tree, _ = tree_of({"/".join("d" * 3000): b"x"})
    assert len(list(tree.directories())) == 3000
