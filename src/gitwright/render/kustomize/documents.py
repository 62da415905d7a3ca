"""Objects of files, remembered by what stands for the content.

Role in the flow: `accumulate` asks here for the objects of a resource file. Within one build a
file is read once; a `Remembered` that is handed from build to build spares reading and parsing
of everything that has not changed. What is given out is always private to the taker.
"""

from __future__ import annotations

from collections import OrderedDict

from gitwright.core.objects import JSON
from gitwright.render.kustomize import load
from gitwright.render.kustomize.model import copy_value
from gitwright.render.kustomize.tree import Tree


class Remembered:
    """Objects of files by their blob ids; what was not asked for longest makes room.

    Args:
        size: bytes of the files whose objects are kept.
    """

    def __init__(self, size: int = 64 * 1024 * 1024) -> None:
        self._size = size
        self._held = 0
        self._kept: OrderedDict[str, tuple[int, list[JSON]]] = OrderedDict()

    def get(self, blob: str) -> list[JSON] | None:
        """Give the objects of a blob; they must not be changed."""
        found = self._kept.get(blob)
        if found is None:
            return None
        self._kept.move_to_end(blob)
        return found[1]

    def keep(self, blob: str, objects: list[JSON], size: int) -> None:
        """Keep the objects of a blob of so many bytes."""
        if size > self._size or blob in self._kept:
            return
        self._kept[blob] = (size, objects)
        self._held += size
        while self._held > self._size:
            _, (gone, _) = self._kept.popitem(last=False)
            self._held -= gone


class Documents:
    """Objects of files in one build.

    Args:
        remembered: what builds share; None to remember nothing.
    """

    def __init__(self, remembered: Remembered | None = None) -> None:
        self._remembered = remembered
        # None for a file that was read once: most are never asked for again, and need no copy.
        self._parsed: dict[str, list[JSON] | None] = {}

    def objects(self, tree: Tree, path: str) -> list[JSON]:
        """Give the objects of a file.

        Args:
            tree: the files.
            path: from the root of the tree, without links.

        Raises:
            FileNotFoundError: there is no such file.
            KustomizeError: it holds no objects that can be read.
        """
        blob = tree.blob(path) if self._remembered is not None else None
        if self._remembered is not None and blob is not None:
            known = self._remembered.get(blob)
            if known is None:
                content = tree.read(path)
                known = load.objects(content, path)
                self._remembered.keep(blob, known, len(content))
            else:
                tree.inputs.add(path)
            return _copies(known)
        content = tree.read(path)
        if path not in self._parsed:
            self._parsed[path] = None
            return load.objects(content, path)
        again = self._parsed[path]
        if again is None:
            again = self._parsed[path] = load.objects(content, path)
        return _copies(again)


def _copies(objects: list[JSON]) -> list[JSON]:
    return [copy_value(obj) for obj in objects]
