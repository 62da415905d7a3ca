"""Immutable directory trees, addressed by digest.

Role in the flow: what a source hands to the renderer. A tree knows names, modes
and blob ids; contents come through a `BlobReader` when asked for. It must not
know where blobs live, nor what files mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gitwright.core.errors import Stalled, Transient

Entry = Literal["dir", "file", "link"]

MAX_FILE = 10 * 1024 * 1024
"""Bytes of one file that `Tree.read` gives unless told otherwise; no manifest is near it."""


class TreeError(Stalled):
    """A tree that cannot be: a path that leaves it, a name twice, a file too large."""

    reason = "InvalidPath"


class BlobMissing(Transient):
    """A blob that its reader no longer has; fetching the source again brings it back."""

    reason = "ReadOperationFailed"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree.

    Args:
        id: the blob's id, hexadecimal; equal ids mean equal bytes.
        size: bytes.
        executable: whether its executable bit is set.
        link: the target if it is a symbolic link, else None.
    """

    id: str
    size: int
    executable: bool = False
    link: str | None = None


class BlobReader(Protocol):
    """Gives the bytes of blobs."""

    async def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give the bytes of each blob by its id.

        Raises:
            BlobMissing: one is not there.
        """
        ...


@dataclass(slots=True)
class _Directory:
    children: dict[str, _Directory | File] = field(default_factory=dict)
    digest: str = ""


def split(path: str) -> tuple[str, ...]:
    """Cut a path inside a tree into names; `.` and empty names vanish.

    Raises:
        TreeError: the path is absolute, holds `..` or a NUL (S1).
    """
    if path.startswith("/") or "\0" in path:
        raise TreeError(f"invalid path {path!r}: it must be relative to the root of the tree")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise TreeError(f"invalid path {path!r}: it must not leave the tree")
    return parts


class Tree:
    """An immutable directory tree; make one with `Tree.build`."""

    __slots__ = ("_reader", "_root")

    def __init__(self, root: _Directory, reader: BlobReader) -> None:
        self._root = root
        self._reader = reader

    @classmethod
    def build(cls, files: Mapping[str, File], reader: BlobReader) -> Tree:
        """Make a tree of files and compute each directory's digest once, bottom-up.

        Work is proportional to the number of files; call it in a thread for large trees.

        Args:
            files: path -> file; paths such as `apps/web/a.yaml`.
            reader: gives the blobs.

        Raises:
            TreeError: a path leaves the tree, or is both a file and a directory.
        """
        root = _Directory()
        folders: dict[str, _Directory] = {"": root}
        for path, file in files.items():
            parent, _, name = path.rpartition("/")
            folder = folders.get(parent)
            if folder is None:
                folder = _descend(root, split(parent), path)
                folders[parent] = folder
            if split(name) != (name,) or name in folder.children:
                raise TreeError(f"invalid path {path!r}: not a new name in its directory")
            folder.children[name] = file
        _seal(root)
        return cls(root, reader)

    def rebind(self, reader: BlobReader) -> Tree:
        """Give the same tree over another reader."""
        return Tree(self._root, reader)

    def digest(self, path: str = "") -> str:
        """Give the digest of the directory at `path`: SHA-256 over names, modes and ids below it.

        Raises:
            KeyError: there is no such directory.
        """
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise KeyError(path)
        return node.digest

    def file(self, path: str) -> File | None:
        """Give the file or link at `path`, or None; links are not followed."""
        node = self._node(path)
        return node if isinstance(node, File) else None

    def is_dir(self, path: str) -> bool:
        """Tell whether `path` is a directory."""
        return isinstance(self._node(path), _Directory)

    def list(self, path: str = "") -> list[tuple[str, Entry]]:
        """List a directory's names and what they are, sorted by name.

        Raises:
            KeyError: there is no such directory.
        """
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise KeyError(path)
        return [(name, _what(child)) for name, child in node.children.items()]

    def walk(self, path: str = "") -> Iterator[tuple[str, File]]:
        """Give every file and link below `path` with its path from the root, sorted per directory.

        Raises:
            KeyError: there is no such directory.
        """
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise KeyError(path)
        return _walk(node, "/".join(split(path)))

    def directories(self) -> Iterator[str]:
        """Give the path of every directory, parents first; the root is empty."""
        return _directories(self._root, "")

    async def read(self, paths: Sequence[str], *, limit: int = MAX_FILE) -> dict[str, bytes]:
        """Read files.

        Args:
            paths: which; links are not followed.
            limit: bytes that one file may have.

        Raises:
            KeyError: a path is no file of this tree.
            TreeError: a path is a link, or the file is larger than the limit (S2, S10).
            BlobMissing: the reader lost a blob.
        """
        ids: dict[str, str] = {}
        for path in paths:
            file = self.file(path)
            if file is None:
                raise KeyError(path)
            if file.link is not None:
                raise TreeError(f"{path} is a symbolic link to {file.link!r}", place=path)
            if file.size > limit:
                raise TreeError(f"{path} has {file.size} bytes, more than the limit of {limit}", place=path)
            ids[path] = file.id
        contents = await self._reader.read(tuple(dict.fromkeys(ids.values())))
        return {path: contents[blob] for path, blob in ids.items()}

    @property
    def reader(self) -> BlobReader:
        """The reader that this tree's blobs come from."""
        return self._reader

    def _node(self, path: str) -> _Directory | File | None:
        node: _Directory | File | None = self._root
        for name in split(path):
            if not isinstance(node, _Directory):
                return None
            node = node.children.get(name)
        return node


def _descend(root: _Directory, names: Sequence[str], path: str) -> _Directory:
    folder = root
    for name in names:
        child = folder.children.setdefault(name, _Directory())
        if not isinstance(child, _Directory):
            raise TreeError(f"invalid path {path!r}: {name!r} is a file")
        folder = child
    return folder


def _seal(folder: _Directory) -> None:
    """Sort names and compute digests; no recursion deeper than the paths themselves."""
    stack: list[tuple[_Directory, bool]] = [(folder, False)]
    while stack:
        node, ready = stack.pop()
        if not ready:
            stack.append((node, True))
            stack.extend((child, False) for child in node.children.values() if isinstance(child, _Directory))
            continue
        node.children = dict(sorted(node.children.items()))
        total = hashlib.sha256()
        for name, child in node.children.items():
            mode, content = ("d", child.digest) if isinstance(child, _Directory) else (_mode(child), child.id)
            total.update(f"{mode} {content} {name}\0".encode(errors="surrogateescape"))
        node.digest = total.hexdigest()


def _mode(file: File) -> str:
    if file.link is not None:
        return "l"
    return "x" if file.executable else "f"


def _what(node: _Directory | File) -> Entry:
    if isinstance(node, _Directory):
        return "dir"
    return "file" if node.link is None else "link"


def _walk(folder: _Directory, path: str) -> Iterator[tuple[str, File]]:
    stack: list[tuple[str, _Directory | File]] = [(path, folder)]
    while stack:
        here, node = stack.pop()
        if isinstance(node, File):
            yield here, node
        else:
            prefix = f"{here}/" if here else ""
            stack.extend((prefix + name, child) for name, child in reversed(node.children.items()))


def _directories(folder: _Directory, path: str) -> Iterator[str]:
    stack = [(path, folder)]
    while stack:
        here, node = stack.pop()
        yield here
        prefix = f"{here}/" if here else ""
        stack.extend(
            (prefix + name, child)
            for name, child in reversed(node.children.items())
            if isinstance(child, _Directory)
        )
