"""Reproducible archives."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from gitwright.artifact.archive import ArchiveBlobs, FirstOf, Limits, verify, write
from gitwright.artifact.tree import BlobMissing, Tree, TreeError
from tests.unit.blobs import MemoryBlobs, tree_of

FILES = {"b.yaml": b"b", "a/x.yaml": b"x", "a-b/y.yaml": b"y"}


def names(folder: Path) -> list[str]:
    """List a folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_an_archive_is_as_flux_writes_it(tmp_path: Path) -> None:
    """Owners and times are zero, modes fixed, directories first, links left out."""
    blobs = MemoryBlobs()
    files = {path: blobs.add(content) for path, content in FILES.items()}
    files["a/run.sh"] = blobs.add(b"#!", executable=True)
    files["link"] = replace(blobs.add(b"b.yaml"), link="b.yaml")
    written = await write(Tree.build(files, blobs), tmp_path / "x.tar.gz", limits=Limits())
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        found = {info.name: info for info in tar}
        assert tar.extractfile("a/x.yaml").read() == b"x"  # type: ignore[union-attr]
    assert list(found) == [".", "a", "a/run.sh", "a/x.yaml", "a-b", "a-b/y.yaml", "b.yaml"]
    assert {(info.uid, info.gid, info.mtime, info.uname) for info in found.values()} == {(0, 0, 0, "")}
    modes = {name: info.mode for name, info in found.items()}
    assert (modes["."], modes["a"], modes["b.yaml"], modes["a/run.sh"]) == (0o750, 0o750, 0o600, 0o700)
    assert written.size == (tmp_path / "x.tar.gz").stat().st_size
    assert verify(tmp_path / "x.tar.gz", written.digest)
    assert (tmp_path / "x.tar.gz").stat().st_mode & 0o777 == 0o600


async def test_equal_trees_give_equal_bytes(tmp_path: Path) -> None:
    """The same files in another order and at another time give the same digest; others another."""
    first = await write(tree_of(FILES)[0], tmp_path / "1", limits=Limits())
    again = await write(tree_of(dict(reversed(FILES.items())))[0], tmp_path / "2", limits=Limits())
    other = await write(tree_of({**FILES, "b.yaml": b"c"})[0], tmp_path / "3", limits=Limits())
    assert first == again
    assert other.digest != first.digest


@pytest.mark.parametrize("kind", ["files", "file_bytes", "total_bytes"])
async def test_limits_hold_at_the_limit_and_not_beyond(tmp_path: Path, kind: str) -> None:
    """A tree at a limit is archived, one beyond it is refused and leaves nothing (S10)."""
    tree, _ = tree_of({"a": b"12345", "b": b"123"})
    exact = {"files": 3, "file_bytes": 5, "total_bytes": 8}[kind]
    await write(tree, tmp_path / "fits", limits=Limits(**{kind: exact}))
    with pytest.raises(TreeError, match="limit"):
        await write(tree, tmp_path / "not", limits=Limits(**{kind: exact - 1}))
    assert names(tmp_path) == ["fits"]


async def test_a_failed_write_leaves_the_old_archive(tmp_path: Path) -> None:
    """An archive is whole or untouched."""
    target = tmp_path / "x"
    before = await write(tree_of(FILES)[0], target, limits=Limits())
    tree, blobs = tree_of({"a": b"new"})
    blobs.contents.clear()
    with pytest.raises(BlobMissing):
        await write(tree, target, limits=Limits())
    assert verify(target, before.digest)
    assert names(tmp_path) == ["x"]


async def test_blobs_are_read_back_from_the_archive(tmp_path: Path) -> None:
    """What an archive holds can be read by id; a changed or missing archive gives nothing (S6)."""
    tree, _ = tree_of(FILES)
    target = tmp_path / "x"
    written = await write(tree, target, limits=Limits())
    paths = {file.id: path for path, file in tree.walk()}
    reader = ArchiveBlobs(target, written.digest, paths)
    assert set((await reader.read(list(paths))).values()) == {b"b", b"x", b"y"}
    with pytest.raises(BlobMissing):
        await reader.read(["0" * 40])
    target.write_bytes(target.read_bytes() + b"x")
    with pytest.raises(BlobMissing):
        await reader.read(list(paths))
    target.unlink()
    with pytest.raises(BlobMissing):
        await reader.read(list(paths))


async def test_the_second_reader_is_asked_when_the_first_lost_a_blob() -> None:
    """A lost blob is looked for in the next place."""
    tree, blobs = tree_of(FILES)
    reader = FirstOf(MemoryBlobs(), blobs)
    ids = [file.id for _, file in tree.walk()]
    assert await reader.read(ids) == blobs.contents
