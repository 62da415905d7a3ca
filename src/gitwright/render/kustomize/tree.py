"""The files a build may read, whatever holds them, and the paths that lead to them.

Role in the flow: the only door between a build and its input. A build sees `Root`s, folders
in one `Files`; every path is resolved here, links included, and everything looked at is noted.
Nothing here opens a file of the machine. Source: spec/security.md S1, S2, S7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gitwright.render.kustomize.errors import KustomizeError

_HOPS = 40
"""Symbolic links on one path; Linux follows as many."""


class Files(Protocol):
    """A tree of files: paths are relative to its root, `/` between names, the root itself is empty."""

    def read(self, path: str) -> bytes:
        """Give a file's content. Raises FileNotFoundError when it is no file."""

    def is_file(self, path: str) -> bool:
        """Tell whether a regular file is there."""

    def is_dir(self, path: str) -> bool:
        """Tell whether a folder is there."""

    def link(self, path: str) -> str | None:
        """Give the target of a symbolic link, None for anything else."""

    def blob(self, path: str) -> str | None:
        """Give what stands for a file's content, such as its blob id; None when nothing does."""


class MappingFiles:
    """A tree in memory.

    Args:
        contents: path -> content.
        links: path -> target of a symbolic link.
    """

    def __init__(self, contents: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> None:
        self._contents = contents
        self._links = links or {}
        self._folders: dict[str, set[str]] = {"": set()}
        for path in [*contents, *self._links]:
            folder, _, name = path.rpartition("/")
            while name not in (known := self._folders.setdefault(folder, set())):
                known.add(name)
                if not folder:
                    break
                folder, _, name = folder.rpartition("/")

    def read(self, path: str) -> bytes:
        """Give a file's content."""
        try:
            return self._contents[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def is_file(self, path: str) -> bool:
        """Tell whether a file is there."""
        return path in self._contents

    def is_dir(self, path: str) -> bool:
        """Tell whether a folder is there."""
        return path in self._folders

    def link(self, path: str) -> str | None:
        """Give the target of a symbolic link."""
        return self._links.get(path)

    def blob(self, path: str) -> str | None:
        """Give nothing: content in memory is not told apart."""
        return None


class Tree:
    """One tree as one build sees it: resolves paths, follows links, notes what was looked at.

    Args:
        files: what holds the files.
        limit: bytes of all files that one build may read (S10).
        again: bytes that it may take of files it has read before, for bases used many times.
    """

    def __init__(self, files: Files, limit: int = 256 * 1024 * 1024, again: int = 64 * 1024 * 1024) -> None:
        self._files = files
        self._left = limit
        self._left_again = again
        self._contents: dict[str, bytes] = {}
        self.inputs: set[str] = set()

    def resolve(self, names: list[str], shown: str) -> str:
        """Follow the links of a path and give it without any; what is not there stays as written.

        Args:
            names: the parts of the path from the root; `..` only as links may hold it.
            shown: the path for messages.

        Raises:
            KustomizeError: it leads out of the tree, or its links go in circles.
        """
        pending = list(reversed(names))
        here: list[str] = []
        hops = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if not here:
                    raise KustomizeError(f"'{shown}' leads out of the tree", place=shown)
                here.pop()
                continue
            here.append(name)
            path = "/".join(here)
            target = self._files.link(path)
            if target is None:
                continue
            self.inputs.add(path)
            hops += 1
            if target.startswith("/") or "\0" in target or hops > _HOPS:
                raise KustomizeError(
                    f"symbolic link '{path}' leads out of the tree or in circles", place=shown
                )
            here.pop()
            pending.extend(reversed(target.split("/")))
        return "/".join(here)

    def read(self, path: str) -> bytes:
        """Give a file's content, read once.

        Raises:
            FileNotFoundError: there is no file.
            KustomizeError: the build reads more than the limits.
        """
        self.inputs.add(path)
        content = self._contents.get(path)
        if content is None:
            content = self._files.read(path)
            self._left -= len(content)
            if self._left < 0:
                raise KustomizeError("the build reads more bytes than the limit", place=path)
            self._contents[path] = content
        else:
            self.take_again(path, len(content))
        return content

    def take_again(self, path: str, size: int) -> None:
        """Count bytes of a file that are used once more.

        Raises:
            KustomizeError: the build multiplies its files beyond the limit.
        """
        self._left_again -= size
        if self._left_again < 0:
            raise KustomizeError("the build uses its files too many times over", place=path)

    def blob(self, path: str) -> str | None:
        """Give what stands for the content of a file at a resolved path."""
        return self._files.blob(path) if self._files.is_file(path) else None

    def is_dir(self, path: str) -> bool:
        """Tell whether a folder is at a resolved path, and note the question."""
        self.inputs.add(path)
        return self._files.is_dir(path)


class Root:
    """A folder with a kustomization file, to which the paths in that file are relative.

    Args:
        tree: the whole tree.
        path: the folder, from the tree's root, without links.
        parents: the folders on the way here, for cycles.
    """

    def __init__(self, tree: Tree, path: str, parents: tuple[str, ...] = ()) -> None:
        self.tree = tree
        self.path = path
        self.parents = parents

    def locate(self, path: str) -> str:
        """Resolve a path of the kustomization file to one from the tree's root, without links.

        `..` is taken from the text before links are followed, as kustomize does.

        Raises:
            KustomizeError: it is absolute or leads out of the tree.
        """
        if path.startswith("/") or "\0" in path:
            raise KustomizeError(f"path '{path}' must be relative", place=self.path)
        names = self.path.split("/") if self.path else []
        for name in path.split("/"):
            if name == "..":
                if not names:
                    raise KustomizeError(f"path '{path}' leads out of the tree", place=self.path)
                names.pop()
            elif name not in ("", "."):
                names.append(name)
        return self.tree.resolve(names, path)

    def read(self, path: str) -> bytes:
        """Read a file that the kustomization names.

        Raises:
            FileNotFoundError: there is no such file.
            KustomizeError: the path is absolute, leaves the tree, or a limit is met.
        """
        found = self.locate(path)
        if self.tree.is_dir(found) or (path.endswith("/") and found):
            raise FileNotFoundError(path)
        return self.tree.read(found)

    def shown(self, path: str = "") -> str:
        """Give a path of this folder as messages name it."""
        return "/".join(part for part in (self.path, path) if part) or "."
