"""Whole builds, remembered by what they read.

Role in the flow: stands before `build` where the same folder is built again and again. A result
counts as long as every path that was looked at is what it was: the same file, folder or link, or
still absent. Knows nothing of how one is built. Source: spec/performance.md 4.3.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gitwright.render.kustomize.build import Built, build
from gitwright.render.kustomize.documents import Remembered
from gitwright.render.kustomize.tree import Files

_UNTOLD = "untold"
"""A file whose content nothing stands for: what was read from it cannot be remembered."""


@dataclass(frozen=True, slots=True)
class _Known:
    built: Built
    marks: dict[str, str | None]


class Results:
    """Results of builds by their folder; what was not asked for longest makes room.

    Args:
        most: results that are kept.
        remembered: parsed files, shared by all builds.
    """

    def __init__(self, most: int = 1000, remembered: Remembered | None = None) -> None:
        self._most = most
        self._remembered = remembered if remembered is not None else Remembered()
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def build(self, files: Files, path: str, name: str = "") -> Built:
        """Build a folder, or give what it was built to when nothing that was read has changed.

        Args:
            files: the tree.
            path: the folder, from the tree's root.
            name: what tells this tree from others, such as the repository's.

        Returns:
            The result, which must not be changed.

        Raises:
            KustomizeError: it does not build; that is not remembered.
        """
        known = self.peek(files, path, name)
        if known is not None:
            return known
        built = build(files, path, self._remembered)
        marks = {read: _mark(files, read) for read in built.inputs}
        if _UNTOLD not in marks.values():
            self._known[(name, path)] = _Known(built, marks)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return built

    def peek(self, files: Files, path: str, name: str = "") -> Built | None:
        """Give a remembered result that still counts; None when there is none."""
        known = self._known.get((name, path))
        if known is None or any(_mark(files, read) != mark for read, mark in known.marks.items()):
            return None
        self._known.move_to_end((name, path))
        return known.built


def _mark(files: Files, path: str) -> str | None:
    """Give what stands for the present state of a path."""
    found = files.blob(path)
    if found is not None:
        return found
    if files.is_dir(path):
        return "folder"
    return _UNTOLD if files.is_file(path) or files.link(path) is not None else None
