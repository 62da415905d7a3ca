"""A private folder of this process, best in memory, that never outlives it for long.

Role in the flow: credentials for git and what a build reads lie in it for moments. A process
that was killed cannot tidy up, so the next one does: a folder belongs to whoever holds the
lock on it, which the kernel lets go with the process. It must not know what lies in it.
Source: spec/security.md S22; spec/performance.md 3.1 (folders left after a crash).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "gitwright-"
# Not swept: a folder bears its name only once it is locked.
_UNNAMED = ".gitwright-new-"


class PrivateFolder:
    """One folder, readable by its owner alone; make it with `claim`, end it with `release`.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    @classmethod
    def claim(cls, parent: Path) -> PrivateFolder:
        """Make a folder below `parent`, and remove those of processes that are gone.

        Reads and deletes files, so call it in a thread.

        Raises:
            OSError: no folder can be made there.
        """
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(parent)
        made = Path(tempfile.mkdtemp(prefix=_UNNAMED, dir=parent))
        handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(made.rename(parent / (_PREFIX + made.name.removeprefix(_UNNAMED))), handle)

    def release(self) -> None:
        """Remove the folder; harmless when it is gone."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._handle)


def sweep(parent: Path) -> int:
    """Remove the folders below `parent` whose processes are gone; give how many.

    Folders of other users are left alone, as are those that cannot be removed.
    """
    gone = 0
    for path in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(handle).st_uid == os.geteuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
                    gone += 1
            finally:
                os.close(handle)
    return gone
