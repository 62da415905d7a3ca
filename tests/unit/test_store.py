"""The artifact store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gitwright.artifact import serve
from gitwright.artifact.store import Artifact, Store
from gitwright.artifact.tree import BlobMissing, Tree
from gitwright.core.errors import Stalled
from tests.unit.blobs import MemoryBlobs, tree_of

OF = ("GitRepository", "apps", "web")


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1_767_225_600.0

    def __call__(self) -> float:
        return self.now


def store_at(root: Path, clock: Clock, key: bytes = b"k" * 32) -> Store:
    """Open a store with small retention."""
    return Store(root, base_url="http://gitwright.flux-system.svc/", key=key, clock=clock)


def archives_below(folder: Path) -> list[Path]:
    """Find every archive."""
    return list(folder.rglob("*.tar.gz"))


async def put(store: Store, number: int, content: bytes | None = None) -> Artifact:
    """Store a tree of one file as revision `number`."""
    tree, _ = tree_of({"a.yaml": content or str(number).encode()})
    return await store.put(*OF, f"main@sha1:{number}", tree, id=f"id{number}", config="c")


async def test_an_artifact_is_named_as_flux_names_it(tmp_path: Path) -> None:
    """Path, URL, digest, size and time are as status.artifact wants; nobody can guess the path (S34)."""
    store = store_at(tmp_path, Clock())
    artifact = await put(store, 1)
    kind, namespace, name, secret, file = artifact.path.split("/")
    assert (kind, namespace, name, file) == ("gitrepository", "apps", "web", "id1.tar.gz")
    assert len(secret) == 32
    assert artifact.url == "http://gitwright.flux-system.svc/" + artifact.path
    assert artifact.last_update == "2026-01-01T00:00:00Z"
    assert artifact.digest.startswith("sha256:")
    assert artifact.size == (tmp_path / "gitrepository/apps/web/id1.tar.gz").stat().st_size
    other = await put(store_at(tmp_path / "2", Clock(), key=b"z" * 32), 1)
    assert other.path != artifact.path


async def test_a_restart_finds_the_artifact_and_its_files(tmp_path: Path) -> None:
    """A new process opens what an old one stored: same values, same tree, links included."""
    blobs = MemoryBlobs()
    file = blobs.add(b"content")
    link = type(file)(file.id, 3, False, "a.yaml")
    tree = Tree.build({"a.yaml": file, "l": link}, blobs)
    before = await store_at(tmp_path, Clock()).put(*OF, "main@sha1:1", tree, id="id1", metadata={"m": "v"})
    store = store_at(tmp_path, Clock())
    assert store.current(*OF) is None
    after = await store.open(*OF)
    assert after is not None
    assert (after.revision, after.digest, after.path, after.size) == (
        before.revision,
        before.digest,
        before.path,
        before.size,
    )
    assert after.metadata == {"m": "v"}
    assert after.tree.digest() == tree.digest()
    assert after.tree.file("l") == link
    assert await after.tree.read(["a.yaml"]) == {"a.yaml": b"content"}
    assert store.current(*OF) is after


@pytest.mark.parametrize(
    "harm",
    [
        "archive-changed",
        "archive-missing",
        "listing-changed",
        "listing-missing",
        "index-changed",
        "index-garbage",
        "all-gone",
    ],
)
async def test_a_damaged_cache_is_refused_and_built_again(tmp_path: Path, harm: str) -> None:
    """Whatever happens to the cache, what is opened is right or nothing, and a new put mends it (S6)."""
    await put(store_at(tmp_path, Clock()), 1)
    folder = tmp_path / "gitrepository/apps/web"
    match harm:
        case "archive-changed":
            (folder / "id1.tar.gz").write_bytes(b"evil")
        case "archive-missing":
            (folder / "id1.tar.gz").unlink()
        case "listing-changed":
            (folder / "id1.tree.json").write_text("[]")
        case "listing-missing":
            (folder / "id1.tree.json").unlink()
        case "index-changed":
            outer = json.loads((folder / "index.json").read_text())
            outer["body"] = outer["body"].replace("main@sha1:1", "main@sha1:9")
            (folder / "index.json").write_text(json.dumps(outer))
        case "index-garbage":
            (folder / "index.json").write_text("{]")
        case _:
            shutil.rmtree(tmp_path)
    store = store_at(tmp_path, Clock())
    assert await store.open(*OF) is None
    await put(store, 1)
    found = await store.open(*OF)
    assert found is not None
    assert found.revision == "main@sha1:1"


async def test_damage_while_running_is_noticed(tmp_path: Path) -> None:
    """An archive that changes under a running process is not taken for the artifact any more."""
    store = store_at(tmp_path, Clock())
    artifact = await put(store, 1)
    assert await store.open(*OF) is artifact
    (tmp_path / "gitrepository/apps/web/id1.tar.gz").write_bytes(b"evil")
    assert await store.open(*OF) is None
    assert store.current(*OF) is None


async def test_a_lost_blob_is_read_from_the_archive(tmp_path: Path) -> None:
    """When the mirror loses a blob the artifact's own archive still has it."""
    tree, blobs = tree_of({"a.yaml": b"content"})
    artifact = await store_at(tmp_path, Clock()).put(*OF, "r", tree, id="id1")
    blobs.contents.clear()
    assert await artifact.tree.read(["a.yaml"]) == {"a.yaml": b"content"}


async def test_retention_keeps_two_and_forgets_after_a_minute(tmp_path: Path) -> None:
    """Old archives go by count and by age; the current one stays for ever."""
    clock = Clock()
    store = store_at(tmp_path, clock)
    for number in (1, 2, 3):
        await put(store, number)
        clock.now += 1
    folder = tmp_path / "gitrepository/apps/web"
    assert await store.collect(*OF) == 1
    assert sorted(path.name for path in folder.glob("*.tar.gz")) == ["id2.tar.gz", "id3.tar.gz"]
    assert await store.collect(*OF) == 0
    clock.now += 61
    assert await store.collect(*OF) == 1
    assert await store.collect(*OF) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["id3.tar.gz", "id3.tree.json", "index.json"]
    again = store_at(tmp_path, clock)
    found = await again.open(*OF)
    assert found is not None
    assert found.revision == "main@sha1:3"


async def test_a_deleted_object_leaves_nothing(tmp_path: Path) -> None:
    """Removing takes all archives of the object and none of another."""
    store = store_at(tmp_path, Clock())
    await put(store, 1)
    await put(store, 2)
    tree, _ = tree_of({"a": b"a"})
    await store.put("GitRepository", "apps", "other", "r", tree, id="x")
    assert await store.remove(*OF) == 2
    assert await store.open(*OF) is None
    assert [path.name for path in (tmp_path / "gitrepository/apps").iterdir()] == ["other"]
    assert await store.remove(*OF) == 0


@pytest.mark.parametrize(
    "of",
    [
        ("GitRepository", "..", "web"),
        ("GitRepository", "apps", "../../etc"),
        ("Git/Repository", "apps", "web"),
        ("GitRepository", "", "web"),
        ("GitRepository", "apps", "/etc"),
        ("GitRepository", "apps", "a\0"),
    ],
)
async def test_names_that_are_no_names_never_become_paths(tmp_path: Path, of: tuple[str, str, str]) -> None:
    """A path is built of valid names only (S1)."""
    store = store_at(tmp_path / "root", Clock())
    tree, _ = tree_of({"a": b"a"})
    with pytest.raises(Stalled):
        await store.put(*of, "r", tree, id="x")
    with pytest.raises(Stalled):
        await store.open(*of)
    with pytest.raises(Stalled):
        await store.put(*OF, "r", tree, id="../x")
    assert not archives_below(tmp_path)


async def test_serving_needs_the_secret_part(tmp_path: Path) -> None:
    """Only the whole path of an artifact names its file; every other spelling names nothing (S34)."""
    store = store_at(tmp_path, Clock())
    artifact = await put(store, 1)
    folder = tmp_path / "gitrepository/apps/web"
    assert serve.resolve(store, "/" + artifact.path) == folder / "id1.tar.gz"
    kind, namespace, name, secret, file = artifact.path.split("/")
    wrong = "0" * 32 if secret != "0" * 32 else "1" * 32
    for path in (
        f"{kind}/{namespace}/{name}/{file}",
        f"{kind}/{namespace}/{name}/{wrong}/{file}",
        f"{kind}/{namespace}/other/{secret}/{file}",
        f"{kind}/{namespace}/{name}/{secret}/index.json",
        f"{kind}/{namespace}/{name}/{secret}/id2.tar.gz",
        f"{kind}/{namespace}/{name}/{secret}/../{file}",
        f"{kind}/{namespace}/{name}/{secret}/{file}/",
        f"{kind.upper()}/{namespace}/{name}/{secret}/{file}",
        f"{kind}//{name}/{secret}/{file}",
        "",
        "é" * 40,
    ):
        assert serve.resolve(store, path) is None, path
    (folder / "id1.tar.gz").unlink()
    assert serve.resolve(store, artifact.path) is None


async def test_a_failed_put_keeps_the_artifact_before(tmp_path: Path) -> None:
    """When a new tree cannot be stored the old artifact stays current."""
    store = store_at(tmp_path, Clock())
    before = await put(store, 1)
    tree, blobs = tree_of({"a": b"new"})
    blobs.contents.clear()
    with pytest.raises(BlobMissing):
        await store.put(*OF, "main@sha1:2", tree, id="id2")
    assert await store.open(*OF) is before
