"""Where artifacts lie: content-addressed archives, their index, retention and verification.

Role in the flow: a source puts a tree and gets an `Artifact`; renderers and other
controllers take its tree, other programs its archive by URL. Everything here is a
cache: what is deleted or damaged is noticed and built again from the source. Must
not know what a source is.

On disk: `<root>/<kind>/<namespace>/<name>/<id>.tar.gz` with the list of its files in
`<id>.tree.json` and the folder's `index.json`, both under a MAC of the store's key,
so that a poisoned cache is refused (S6).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gitwright.artifact import archive
from gitwright.artifact.archive import ArchiveBlobs, FirstOf, Limits
from gitwright.artifact.tree import BlobReader, File, Tree
from gitwright.core.errors import Stalled, Transient

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KIND = re.compile(r"[A-Za-z]{1,63}")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,127}")
_SECRET_PART = 32
_SUFFIX = ".tar.gz"


class StorageError(Transient):
    """The store's disk refused something."""

    reason = "ArchiveOperationFailed"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One stored artifact, as `status.artifact` names it, and its tree.

    Args:
        kind: the source's kind, such as `GitRepository`.
        namespace: the source's namespace.
        name: the source's name.
        revision: as Flux writes it, such as `main@sha1:...`.
        digest: `sha256:` and the hexadecimal digest of the archive.
        path: below the server's address; has a part nobody can guess (S34).
        url: whole URL of the archive.
        size: bytes of the archive.
        last_update: when it was stored, RFC 3339 to the second, UTC.
        tree: what is in it, and the links that the archive leaves out.
        config: a word for the settings it was made with; equal revision and config mean equal content.
        metadata: `status.artifact.metadata`.
    """

    kind: str
    namespace: str
    name: str
    revision: str
    digest: str
    path: str
    url: str
    size: int
    last_update: str
    tree: Tree
    config: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Record:
    """One artifact in a folder's index, oldest first."""

    id: str
    revision: str
    digest: str
    size: int
    stored: float
    listing: str
    config: str
    metadata: dict[str, str]


@dataclass(slots=True)
class _Folder:
    """What is known of one object's folder."""

    records: list[_Record]
    current: Artifact | None = None
    # (size, time of change, inode) of the archive when its digest was last computed.
    seen: tuple[int, int, int] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Store:
    """Keeps the artifacts of all sources below one folder.

    Args:
        root: the folder; made when missing, may be deleted at any time.
        base_url: scheme and address that other programs reach the server by.
        key: secret of at least 16 bytes, kept over restarts; makes URLs unguessable and caches tamper-proof.
        clock: the time, seconds since 1970.
        limits: what one artifact may hold.
        retention_ttl: seconds that an artifact which is not current any more is kept.
        retention_records: how many artifacts of one object are kept at most.

    Source: spec/flux-v2.md 2.0 (retention 60 s, 2 records).
    """

    def __init__(
        self,
        root: Path,
        *,
        base_url: str,
        key: bytes,
        clock: Callable[[], float],
        limits: Limits | None = None,
        retention_ttl: float = 60.0,
        retention_records: int = 2,
    ) -> None:
        if len(key) < 16:
            raise ValueError("the store's key needs at least 16 bytes")
        self._root = root
        self._base = base_url.rstrip("/")
        self._key = key
        self._clock = clock
        self._limits = limits or Limits()
        self._ttl = retention_ttl
        self._records = max(1, retention_records)
        self._folders: dict[tuple[str, str, str], _Folder] = {}

    @property
    def root(self) -> Path:
        """The folder that everything lies in."""
        return self._root

    async def put(
        self,
        kind: str,
        namespace: str,
        name: str,
        revision: str,
        tree: Tree,
        *,
        id: str,
        config: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Artifact:
        """Store a tree and make it the object's current artifact.

        Args:
            kind: the source's kind.
            namespace: the source's namespace.
            name: the source's name.
            revision: as Flux writes it.
            tree: its reader must give every file.
            id: names the archive, such as a commit's id.
            config: a word for the settings it was made with.
            metadata: `status.artifact.metadata`.

        Raises:
            Stalled: a part is not fit for a path (S1), or the tree is larger than a limit.
            StorageError: the disk refused.
            BlobMissing: the tree's reader lost a blob.
        """
        path = self._file(kind, namespace, name, id)
        folder = await self._folder(kind, namespace, name)
        async with folder.lock:
            try:
                await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
                written = await archive.write(tree, path, limits=self._limits)
                listing, paths = await asyncio.to_thread(_write_listing, path, tree)
                record = _Record(
                    id,
                    revision,
                    written.digest,
                    written.size,
                    self._clock(),
                    listing,
                    config,
                    dict(metadata or {}),
                )
                records = [*(old for old in folder.records if old.id != id), record]
                await asyncio.to_thread(self._write_index, path.parent, records)
            except OSError as error:
                raise StorageError(f"unable to archive artifact to storage: {error}") from error
            reader = FirstOf(tree.reader, ArchiveBlobs(path, written.digest, paths))
            folder.records = records
            folder.current = self._artifact(kind, namespace, name, record, tree.rebind(reader))
            folder.seen = await asyncio.to_thread(_stat, path)
            return folder.current

    def current(self, kind: str, namespace: str, name: str) -> Artifact | None:
        """Give the current artifact if this process has opened or put it; no disk is touched."""
        folder = self._folders.get((kind, namespace, name))
        return folder.current if folder else None

    def attach(self, kind: str, namespace: str, name: str, reader: BlobReader) -> None:
        """Let the current artifact's tree ask this faster reader before its own archive."""
        folder = self._folders.get((kind, namespace, name))
        if folder is not None and folder.current is not None:
            tree = folder.current.tree
            folder.current = replace(folder.current, tree=tree.rebind(FirstOf(reader, tree.reader)))

    async def open(self, kind: str, namespace: str, name: str) -> Artifact | None:
        """Give the current artifact after verifying it, or None when it must be built again.

        The archive is read whole only when its file has changed since it was last verified.
        """
        path_of = self._directory(kind, namespace, name)
        folder = await self._folder(kind, namespace, name)
        async with folder.lock:
            if not folder.records:
                return None
            record = folder.records[-1]
            path = path_of / (record.id + _SUFFIX)
            seen = await asyncio.to_thread(_stat, path)
            if folder.current is not None and seen is not None and seen == folder.seen:
                return folder.current
            intact = await asyncio.to_thread(archive.verify, path, record.digest)
            tree = await asyncio.to_thread(_read_listing, path, record) if intact else None
            if tree is None:
                folder.records = []
                folder.current = folder.seen = None
                return None
            if folder.current is None:
                folder.current = self._artifact(kind, namespace, name, record, tree)
            folder.seen = seen
            return folder.current

    async def collect(self, kind: str, namespace: str, name: str) -> int:
        """Remove what retention no longer keeps; give the number of archives removed.

        Older than the time to live goes, then the oldest until the number of records
        is kept; the current one always stays. Source: spec/flux-v2.md 2.0.
        """
        directory = self._directory(kind, namespace, name)
        folder = await self._folder(kind, namespace, name)
        async with folder.lock:
            if not folder.records:
                return 0
            *old, newest = folder.records
            now = self._clock()
            kept = [record for record in old if now - record.stored <= self._ttl]
            kept = kept[max(0, len(kept) + 1 - self._records) :]
            gone = [record for record in old if record not in kept]
            if not gone:
                return 0
            records = [*kept, newest]
            try:
                await asyncio.to_thread(self._write_index, directory, records)
                await asyncio.to_thread(_unlink, directory, gone)
            except OSError as error:
                raise StorageError(f"garbage collection of artifacts failed: {error}") from error
            folder.records = records
            return len(gone)

    async def remove(self, kind: str, namespace: str, name: str) -> int:
        """Remove all artifacts of an object that was deleted; give their number."""
        directory = self._directory(kind, namespace, name)
        folder = await self._folder(kind, namespace, name)
        async with folder.lock:
            count = len(folder.records)
            try:
                await asyncio.to_thread(_remove_tree, directory)
            except OSError as error:
                raise StorageError(f"garbage collection for deleted resource failed: {error}") from error
            folder.records = []
            folder.current = folder.seen = None
            self._folders.pop((kind, namespace, name), None)
            return count

    def secret_part(self, kind: str, namespace: str, name: str, file: str) -> str:
        """Give the part of a path that nobody without the key can know (S34)."""
        text = "/".join((kind.lower(), namespace, name, file)).encode()
        return hmac.new(self._key, b"path\0" + text, hashlib.sha256).hexdigest()[:_SECRET_PART]

    def _artifact(self, kind: str, namespace: str, name: str, record: _Record, tree: Tree) -> Artifact:
        file = record.id + _SUFFIX
        part = self.secret_part(kind, namespace, name, file)
        path = "/".join((kind.lower(), namespace, name, part, file))
        stored = datetime.fromtimestamp(int(record.stored), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Artifact(
            kind,
            namespace,
            name,
            record.revision,
            record.digest,
            path,
            f"{self._base}/{path}",
            record.size,
            stored,
            tree,
            record.config,
            record.metadata,
        )

    async def _folder(self, kind: str, namespace: str, name: str) -> _Folder:
        key = (kind, namespace, name)
        if key not in self._folders:
            records = await asyncio.to_thread(self._read_index, self._directory(kind, namespace, name))
            # Another task may have been first while the thread read.
            self._folders.setdefault(key, _Folder(records))
        return self._folders[key]

    def _directory(self, kind: str, namespace: str, name: str) -> Path:
        if not (_KIND.fullmatch(kind) and _NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
            raise Stalled(f"{kind}/{namespace}/{name} is not fit for a path", reason="InvalidPath")
        return self._root / kind.lower() / namespace / name

    def _file(self, kind: str, namespace: str, name: str, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise Stalled(f"{id!r} is not fit for a file name", reason="InvalidPath")
        return self._directory(kind, namespace, name) / (id + _SUFFIX)

    def _mac(self, directory: Path, body: str) -> str:
        place = "/".join(directory.parts[-3:])
        return hmac.new(self._key, f"index\0{place}\0{body}".encode(), hashlib.sha256).hexdigest()

    def _write_index(self, directory: Path, records: list[_Record]) -> None:
        body = json.dumps([asdict(record) for record in records])
        target = directory / "index.json"
        temporary = directory / "index.json.tmp"
        temporary.write_text(json.dumps({"mac": self._mac(directory, body), "body": body}))
        temporary.replace(target)

    def _read_index(self, directory: Path) -> list[_Record]:
        """Read a folder's index; a missing, damaged or foreign one is as if empty."""
        try:
            outer: dict[str, Any] = json.loads((directory / "index.json").read_text())
            body, mac = outer["body"], outer["mac"]
            if not hmac.compare_digest(self._mac(directory, body), mac):
                return []
            return [_Record(**record) for record in json.loads(body)]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def _listing_path(archive_path: Path) -> Path:
    return archive_path.with_name(archive_path.name.removesuffix(_SUFFIX) + ".tree.json")


def _write_listing(archive_path: Path, tree: Tree) -> tuple[str, dict[str, str]]:
    """Write the list of files beside the archive; give its digest, and a path for each blob."""
    rows = [[path, file.id, file.size, file.executable, file.link] for path, file in tree.walk()]
    body = json.dumps(rows).encode()
    target = _listing_path(archive_path)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_bytes(body)
    temporary.replace(target)
    return hashlib.sha256(body).hexdigest(), _paths(tree)


def _paths(tree: Tree) -> dict[str, str]:
    return {file.id: path for path, file in tree.walk() if file.link is None}


def _read_listing(archive_path: Path, record: _Record) -> Tree | None:
    try:
        body = _listing_path(archive_path).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(body).hexdigest() != record.listing:
        return None
    files = {
        path: File(blob, size, executable, link) for path, blob, size, executable, link in json.loads(body)
    }
    paths = {file.id: path for path, file in files.items() if file.link is None}
    return Tree.build(files, ArchiveBlobs(archive_path, record.digest, paths))


def _unlink(directory: Path, records: list[_Record]) -> None:
    for record in records:
        path = directory / (record.id + _SUFFIX)
        path.unlink(missing_ok=True)
        _listing_path(path).unlink(missing_ok=True)


def _remove_tree(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
