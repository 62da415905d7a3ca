"""Reproducible archives of trees, and reading blobs back out of them.

Role in the flow: an artifact's bytes as other consumers fetch them. Equal trees
give equal bytes. Must not know where archives are kept or who asks for them.
Source: spec/flux-v2.md 2.0: owners and times zeroed, files 0600, executables
0700, directories 0750, symbolic links left out.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gitwright.artifact.tree import BlobMissing, BlobReader, File, Tree, TreeError

FILE_MODE = 0o600
EXECUTABLE_MODE = 0o700
DIRECTORY_MODE = 0o750

_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_FILES = 2000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one artifact may hold (S10).

    Args:
        files: number of files.
        file_bytes: bytes of one file.
        total_bytes: bytes of all files together.
    """

    files: int = 200_000
    file_bytes: int = 100 * 1024 * 1024
    total_bytes: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Written:
    """An archive that was written: its `sha256:` digest and its size in bytes."""

    digest: str
    size: int


class _Digesting(io.RawIOBase):
    """Counts and hashes what goes into a file."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.digest.update(data)
        self.size += len(data)
        return self._sink.write(data)


async def write(tree: Tree, target: Path, *, limits: Limits) -> Written:
    """Write a tree as tar.gz, atomically: `target` is whole or untouched.

    Args:
        tree: the tree; its links are left out.
        target: the file; its folder must exist.
        limits: how much a tree may hold.

    Raises:
        TreeError: the tree is larger than a limit.
        BlobMissing: the tree's reader lost a blob.
    """
    plan = await asyncio.to_thread(_plan, tree, limits)
    temporary = target.with_name(target.name + ".tmp")
    writer = await asyncio.to_thread(_Writer, temporary)
    try:
        for batch in _batches(plan):
            wanted = tuple(dict.fromkeys(file.id for _, file in batch if file is not None))
            contents = await tree.reader.read(wanted) if wanted else {}
            await asyncio.to_thread(writer.add, batch, contents)
        return await asyncio.to_thread(writer.finish, target)
    finally:
        await asyncio.to_thread(writer.abandon)


_Item = tuple[str, File | None]


def _plan(tree: Tree, limits: Limits) -> list[_Item]:
    """Put files and directories into the order that Go's filepath.Walk gives."""
    items: list[_Item] = [(path or ".", None) for path in tree.directories()]
    total = 0
    for path, file in tree.walk():
        if file.link is not None:
            continue
        if file.size > limits.file_bytes:
            raise TreeError(f"{path} has {file.size} bytes, more than the limit of {limits.file_bytes}")
        total += file.size
        items.append((path, file))
    if len(items) > limits.files:
        raise TreeError(f"the tree has {len(items)} entries, more than the limit of {limits.files}")
    if total > limits.total_bytes:
        raise TreeError(f"the tree has {total} bytes, more than the limit of {limits.total_bytes}")
    return sorted(items, key=lambda item: [] if item[0] == "." else item[0].split("/"))


def _batches(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    size = 0
    for path, file in items:
        batch.append((path, file))
        size += file.size if file else 0
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Writer:
    """Writes one archive in a thread; not shared between threads at one time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        path.chmod(0o600)
        self._sink = _Digesting(self._file)
        # The level and the missing name and time make equal trees equal bytes.
        self._zip = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=self._sink, mtime=0)
        self._tar = tarfile.TarFile(fileobj=self._zip, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, items: Sequence[_Item], contents: dict[str, bytes]) -> None:
        for path, file in items:
            info = tarfile.TarInfo(path)
            if file is None:
                info.type, info.mode = tarfile.DIRTYPE, DIRECTORY_MODE
                self._tar.addfile(info)
                continue
            body = contents[file.id]
            info.mode = EXECUTABLE_MODE if file.executable else FILE_MODE
            info.size = len(body)
            self._tar.addfile(info, io.BytesIO(body))

    def finish(self, target: Path) -> Written:
        self._tar.close()
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.replace(target)
        return Written(f"sha256:{self._sink.digest.hexdigest()}", self._sink.size)

    def abandon(self) -> None:
        """Remove what was not finished; harmless after `finish`."""
        # Closed in this order: what is left to the garbage collector would write to a closed file.
        self._zip.close()
        self._file.close()
        self._path.unlink(missing_ok=True)


def verify(path: Path, digest: str) -> bool:
    """Tell whether a file exists and has a digest such as `sha256:...`. Reads it whole."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest
    except OSError:
        return False


class ArchiveBlobs:
    """Reads a tree's blobs out of its own archive, for when no faster place has them.

    Args:
        path: the archive.
        digest: its digest; a file that differs is never read from (S6).
        paths: blob id -> one path that holds it.
    """

    def __init__(self, path: Path, digest: str, paths: dict[str, str]) -> None:
        self._path = path
        self._digest = digest
        self._paths = paths

    async def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give the bytes of each blob by its id, in one pass over the archive.

        Raises:
            BlobMissing: the archive is gone, was changed, or does not hold one.
        """
        return await asyncio.to_thread(self._read, ids)

    def _read(self, ids: Sequence[str]) -> dict[str, bytes]:
        wanted = {self._paths[blob]: blob for blob in ids if blob in self._paths}
        found: dict[str, bytes] = {}
        if wanted and verify(self._path, self._digest):
            with tarfile.open(self._path, "r:gz") as tar:
                for info in tar:
                    if info.name in wanted and (body := tar.extractfile(info)) is not None:
                        found[wanted[info.name]] = body.read()
                    if len(found) == len(wanted):
                        break
        missing = [blob for blob in ids if blob not in found]
        if missing:
            raise BlobMissing(f"{len(missing)} of {len(ids)} files of the artifact are gone from storage")
        return found


class FirstOf:
    """Asks one reader and, when it lost a blob, the next."""

    def __init__(self, first: BlobReader, then: BlobReader) -> None:
        self._first = first
        self._then = then

    async def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give the bytes of each blob by its id.

        Raises:
            BlobMissing: neither reader has one.
        """
        try:
            return await self._first.read(ids)
        except BlobMissing:
            return await self._then.read(ids)
