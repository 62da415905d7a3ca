"""A reader of blobs held in memory, for tests of trees, archives and the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from gitwright.artifact.tree import BlobMissing, File, Tree


class MemoryBlobs:
    """Holds blobs by id and counts how often it was asked."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.reads = 0

    def add(self, content: bytes, *, executable: bool = False) -> File:
        """Keep a blob and give its file."""
        blob = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.contents[blob] = content
        return File(blob, len(content), executable)

    async def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give blobs by id."""
        self.reads += 1
        if any(blob not in self.contents for blob in ids):
            raise BlobMissing("gone")
        return {blob: self.contents[blob] for blob in ids}


def tree_of(files: Mapping[str, bytes]) -> tuple[Tree, MemoryBlobs]:
    """Make a tree of paths and contents."""
    blobs = MemoryBlobs()
    return Tree.build({path: blobs.add(content) for path, content in files.items()}, blobs), blobs
