"""A folder of the machine as the tree of a build: the package's only input from a file system.

Role in the flow: for the command line and for tests; the engine gives git trees instead.
Source: spec/security.md S2 (links are resolved by the tree's rules, never by the kernel).
"""

from __future__ import annotations

import os
from pathlib import Path


class DirectoryFiles:
    """A folder of the machine.

    Args:
        root: the folder; nothing outside of it is given.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes:
        """Give a file's content."""
        try:
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def is_file(self, path: str) -> bool:
        """Tell whether a regular file is there."""
        where = self._root / path
        return where.is_file() and not where.is_symlink()

    def is_dir(self, path: str) -> bool:
        """Tell whether a folder is there."""
        where = self._root / path
        return where.is_dir() and (not path or not where.is_symlink())

    def link(self, path: str) -> str | None:
        """Give the target of a symbolic link."""
        try:
            return os.readlink(self._root / path)
        except OSError:
            return None

    def blob(self, path: str) -> str | None:
        """Give what stands for a file's content as long as nobody hides a change: its identity and times."""
        try:
            found = os.lstat(self._root / path)
        except OSError:
            return None
        return f"{found.st_dev}-{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"
