"""The system's sshd, unprivileged on loopback, serving a folder of Git repositories."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType


def make_key(path: Path, *, passphrase: str = "", kind: str = "ed25519") -> bytes:
    """Make an ssh key pair at `path` and `path`.pub; give the private key's text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "gitwright", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_bytes()


class SshGitServer:
    """The system's own sshd, unprivileged, serving a folder of bare repositories.

    A context manager. `identity` is a private key it admits, `known_hosts` its own
    key as a client's file wants it.

    Args:
        root: the folder of bare repositories.
        scratch: a folder for keys and configuration.
        passphrase: protect the client's key by this passphrase.
    """

    def __init__(self, root: Path, scratch: Path, *, passphrase: str = "") -> None:
        self.root = root
        self.user = getpass.getuser()
        self.port = 0
        self._scratch = scratch
        self._process: subprocess.Popen[bytes] | None = None
        self.identity = make_key(scratch / "client", passphrase=passphrase)
        make_key(scratch / "host")
        authorized = scratch / "authorized_keys"
        authorized.write_bytes((scratch / "client.pub").read_bytes())
        authorized.chmod(0o600)

    @staticmethod
    def available() -> str:
        """Give the path of sshd, or an empty text when it is not installed."""
        return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.defpath) or ""

    @property
    def known_hosts(self) -> bytes:
        """The line for a known_hosts file."""
        public = (self._scratch / "host.pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n".encode()

    def url(self, name: str) -> str:
        """Give the ssh URL of repository `name`."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.root / name}.git"

    def start(self) -> SshGitServer:
        """Start sshd and wait until it accepts connections.

        Raises:
            RuntimeError: sshd is missing or does not start.
        """
        binary = self.available()
        if not binary:
            raise RuntimeError("sshd is not installed (Debian: openssh-server)")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd as root refuses to start without it
        self.port = self.port or _free_port()
        command = [binary, "-D", "-e", "-f", str(self._configuration())]
        with (self._scratch / "sshd.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        self.stop()
        raise RuntimeError("sshd did not start: " + (self._scratch / "sshd.log").read_text())

    def _configuration(self) -> Path:
        path = self._scratch / "sshd_config"
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self._scratch / 'host'}",
            f"AuthorizedKeysFile {self._scratch / 'authorized_keys'}",
            f"PidFile {self._scratch / 'sshd.pid'}",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "AcceptEnv GIT_PROTOCOL",
            "MaxStartups 100",
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    def stop(self) -> None:
        """End sshd."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> SshGitServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
