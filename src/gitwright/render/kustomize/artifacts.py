"""An artifact's tree as the tree of a build.

Role in the flow: the engine's side of `tree.Files`; a directory of the machine is the other.
Contents come by a function of the caller's, who decides how they are fetched, so that nothing
here waits for anything itself. Source: spec/security.md S2.
"""

from __future__ import annotations

from collections.abc import Callable

from gitwright.artifact.tree import Tree


class ArtifactFiles:
    """A tree of an artifact.

    Args:
        tree: names, kinds and blob ids.
        content: gives the content of a file by its path; called at most once per path and build,
            and not at all for files whose objects are remembered by blob id.
    """

    def __init__(self, tree: Tree, content: Callable[[str], bytes]) -> None:
        self._tree = tree
        self._content = content

    def read(self, path: str) -> bytes:
        """Give a file's content."""
        if not self.is_file(path):
            raise FileNotFoundError(path)
        return self._content(path)

    def is_file(self, path: str) -> bool:
        """Tell whether a regular file is there."""
        found = self._tree.file(path)
        return found is not None and found.link is None

    def is_dir(self, path: str) -> bool:
        """Tell whether a folder is there."""
        return self._tree.is_dir(path)

    def link(self, path: str) -> str | None:
        """Give the target of a symbolic link."""
        found = self._tree.file(path)
        return None if found is None else found.link

    def blob(self, path: str) -> str | None:
        """Give the blob id of a file."""
        found = self._tree.file(path)
        return None if found is None or found.link is not None else found.id
