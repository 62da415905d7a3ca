"""Child processes that never outlive the test run, and ports for them to listen on.

Role: starts, kills and stops one process by its own id; its output goes to a file that
is shown when something fails. Knows nothing of what it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Run before the program itself: asks the kernel (Linux) to kill the process with its parent, even when
# that one is killed. `preexec_fn` would do the same, but is not safe beside threads.
_TETHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execvpe(sys.argv[2], sys.argv[2:], os.environ)
"""

_alive: set[Process] = set()


class Process:
    """One child process; it dies with the test run, however that ends.

    To be created in the main thread, since its life hangs on that thread.

    Args:
        name: what to call it in messages.
        argv: program and arguments.
        log: file that gets its output; appended to, so that a restart adds.
        environment: of the process.
        cwd: its folder.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-c", _TETHER, str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if environment is None else environment),
                cwd=cwd,
            )
        _alive.add(self)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self._child.poll() is None:
            self._child.send_signal(number)

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait until it is gone."""
        self._child.kill()
        self._child.wait()
        _alive.discard(self)

    def stop(self, patience: float = 10.0) -> int:
        """Ask it to end (SIGTERM), kill it after `patience` seconds; give the exit code."""
        self.signal(signal.SIGTERM)
        try:
            self._child.wait(patience)
        except subprocess.TimeoutExpired:
            self._child.kill()
        code = self._child.wait()
        _alive.discard(self)
        return code

    def tail(self, lines: int = 40) -> str:
        """Give the last lines of its output, headed by its name."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        last = "\n".join(text.splitlines()[-lines:])
        return f"--- {self.name} (exit code {self.exit_code}, {self.log})\n{last}"


@atexit.register
def _end_all() -> None:
    for process in list(_alive):
        with contextlib.suppress(OSError):
            process.kill()


def free_port(taken: set[int] | None = None) -> int:
    """Find a loopback port that nobody listens on.

    It lies below the range from which the kernel takes ports for outgoing connections,
    so none of those can take it before, or between two starts of, the process it is for.

    Args:
        taken: ports promised already; the new one is added.

    Raises:
        RuntimeError: none was found in 200 tries.
    """
    taken = set() if taken is None else taken
    chance = random.SystemRandom()
    for _ in range(200):
        port = chance.randrange(15_000, 32_000)
        if port in taken:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            taken.add(port)
            return port
    raise RuntimeError("no free port on loopback")


def wait_for_port(port: int, process: Process, patience: float = 30.0) -> None:
    """Wait until a process accepts connections on its port.

    Raises:
        RuntimeError: it ended, or did not listen within `patience` seconds; with its output.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end and process.exit_code is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.name} does not listen on port {port}\n{process.tail()}")
