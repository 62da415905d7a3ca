"""Private folders: one per process, gone with it."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

from gitwright.transport.private import PrivateFolder, sweep

_HOLD = """
import sys
from pathlib import Path
from gitwright.transport.private import PrivateFolder
folder = PrivateFolder.claim(Path(sys.argv[1]))
(folder.path / "secret").write_text("value")
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_a_folder_is_private_and_goes_with_its_release(tmp_path: Path) -> None:
    """A claimed folder is readable by its owner alone, and nothing is left after its release."""
    folder = PrivateFolder.claim(tmp_path / "below" / "it")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (folder.path / "file").write_text("x")
    folder.release()
    assert list((tmp_path / "below" / "it").iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """The folder of a living process is left alone; that of a killed one is removed with what is in it."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        assert sweep(tmp_path) == 0
        assert (left / "secret").exists()
        other.send_signal(signal.SIGKILL)
        other.wait()
    mine = PrivateFolder.claim(tmp_path)
    assert not left.exists()
    assert list(tmp_path.iterdir()) == [mine.path]
    mine.release()


def test_foreign_things_of_that_name_stop_nobody(tmp_path: Path) -> None:
    """Files and links that only look like such folders are neither followed nor removed."""
    (tmp_path / "gitwright-file").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (tmp_path / "gitwright-link").symlink_to(outside)
    folder = PrivateFolder.claim(tmp_path)
    assert (outside / "kept").exists()
    assert (tmp_path / "gitwright-file").exists()
    folder.release()
