"""Directory trees of texts and links, for tests of what is rendered from them."""

from __future__ import annotations

from collections.abc import Mapping

from gitwright.artifact.tree import File, Tree
from tests.unit.blobs import MemoryBlobs


def tree_of(files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None) -> Tree:
    """Make a tree of contents by path, and of symbolic links by path and target."""
    blobs = MemoryBlobs()
    found = {
        path: blobs.add(content.encode() if isinstance(content, str) else content)
        for path, content in files.items()
    }
    for path, target in (links or {}).items():
        blob = blobs.add(target.encode())
        found[path] = File(blob.id, blob.size, link=target)
    return Tree.build(found, blobs)
