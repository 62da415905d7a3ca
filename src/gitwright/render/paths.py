"""Paths that a kustomization names, resolved inside a tree.

Role in the flow: the vetting walk asks here where a path leads. Every answer is noted as a
fact about the tree; a remembered build is good for another tree in which all its facts
hold. Nothing here touches a file system. Source: spec/security.md S1, S2, S7.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gitwright.artifact.tree import Tree

_HOPS = 40
"""Symbolic links on one path; Linux follows as many."""
_ABSENT = "absent"
_DIRECTORY = "dir"
_BELOW = "below "

# What kustomize takes for something to clone or download, whatever its case. Looser than
# kustomize in doubt: such a path is refused, never looked up.
_REMOTE = re.compile(
    r"\s*(?:gh:|https?:|file:|[a-z][a-z0-9+.-]*(?:://|::)|github\.com[:/]|[a-z][a-z0-9._-]*@)", re.IGNORECASE
)
# Flux's own, narrower test for spec.components.
_FLUX_REMOTE = ("git::", "gh:", "ssh://", "https://", "http://", "git@", "github.com:", "github.com/")
_PLAIN = re.compile(r"[A-Za-z0-9_./+=~-]+\Z")


class Outside(Exception):
    """A path that leaves the tree, or a chain of symbolic links without an end.

    Args:
        path: the path as far as it could be resolved, or the link's target.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: a path from the root without links, and what is there."""

    path: str
    kind: Literal["file", "dir", "absent"]


def is_remote(path: str) -> bool:
    """Tell whether kustomize would fetch this over the network instead of reading it."""
    return _REMOTE.match(path) is not None


def is_plain(path: str) -> bool:
    """Tell whether a path that leads nowhere is surely just that, and nothing kustomize might fetch."""
    return _PLAIN.match(path) is not None and not is_remote(path)


def is_local(path: str) -> bool:
    """Tell whether Flux takes a component's path for local and relative."""
    folded = path.lower()
    if any(len(path) > len(prefix) and folded.startswith(prefix) for prefix in _FLUX_REMOTE):
        return False
    return not path.startswith("/") and not folded.removeprefix("file://").startswith("/")


class Places:
    """Resolves paths in one tree and keeps the facts that the answers rest on."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.facts: dict[str, str] = {}
        self.links: dict[str, str] = {}

    def resolve(self, directory: str, path: str) -> Place:
        """Follow a path.

        `..` is taken away from the text first, as kustomize does, and links are followed after.

        Args:
            directory: where the path is relative to, from the root and without links.
            path: as a kustomization names it.

        Raises:
            Outside: it leads out of the tree, is absolute, or its links go in circles.
        """
        if path.startswith("/") or "\0" in path:
            raise Outside(path)
        names: list[str] = directory.split("/") if directory else []
        for name in path.split("/"):
            if name == "..":
                if not names:
                    raise Outside(path)
                names.pop()
            elif name not in ("", "."):
                names.append(name)
        return self._follow(names)

    def root(self, path: str) -> Place:
        """Follow the path of a Kustomization's spec, in which `..` stops at the root.

        Raises:
            Outside: a link leads out of the tree.
        """
        names: list[str] = []
        for name in path.replace("\0", "").split("/"):
            if name == "..":
                names = names[:-1]
            elif name not in ("", "."):
                names.append(name)
        return self._follow(names)

    def exists(self, directory: str, path: str) -> bool:
        """Tell whether a path leads to something inside the tree."""
        try:
            return self.resolve(directory, path).kind != "absent"
        except Outside:
            return False

    def below(self, directory: str) -> None:
        """Note that everything below a directory matters."""
        # Kept beside the fact about the directory itself, which links and files need.
        self.facts[_BELOW + directory] = self._tree.digest(directory)

    def look(self, path: str) -> str:
        """Note and give what is at a path that holds no links before its last name."""
        seen = _seen(self._tree, path)
        self.facts[path] = seen
        return seen

    def _follow(self, names: Iterable[str]) -> Place:
        pending = deque(names)
        here: list[str] = []
        hops = 0
        while pending:
            name = pending.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                if not here:
                    raise Outside("/".join([*here, name]))
                here.pop()
                continue
            path = "/".join([*here, name])
            file = self._tree.file(path)
            if file is not None and file.link is not None:
                hops += 1
                if file.link.startswith("/") or "\0" in file.link or hops > _HOPS:
                    raise Outside(path)
                self.look(path)
                self.links[path] = file.link
                pending.extendleft(reversed(file.link.split("/")))
                continue
            here.append(name)
            if file is not None or not self._tree.is_dir(path):
                self.look(path)
                if file is not None and not any(rest not in ("", ".") for rest in pending):
                    return Place(path, "file")
                return Place("/".join([*here, *pending]), "absent")
        path = "/".join(here)
        self.look(path)
        return Place(path, "dir")


def hold(tree: Tree, facts: Iterable[tuple[str, str]]) -> bool:
    """Tell whether facts noted of one tree are true of another."""
    for path, seen in facts:
        if path.startswith(_BELOW):
            directory = path.removeprefix(_BELOW)
            if not tree.is_dir(directory) or tree.digest(directory) != seen:
                return False
        elif _seen(tree, path) != seen:
            return False
    return True


def _seen(tree: Tree, path: str) -> str:
    file = tree.file(path)
    if file is None:
        return _DIRECTORY if tree.is_dir(path) else _ABSENT
    return f"link {file.link}" if file.link is not None else f"file {file.id}"
