"""What the Git tests share: a folder with a served repository, and mirrors of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitwright.transport.git import Egress, GitAccess, GitReference, MirrorLimits, Mirrors, Programs, Resolved
from tests.conftest import missing
from tests.servers.git import GitRepo, GitServer, SshGitServer

ANONYMOUS = GitAccess()
MAIN = GitReference(branch="main")


@dataclass
class Bench:
    """A folder of a test: `served` holds bare repositories, `mirrors` and `private` are the engine's."""

    folder: Path

    @property
    def served(self) -> Path:
        return self.folder / "served"

    def repo(self, name: str = "repo") -> GitRepo:
        """Make a repository."""
        return GitRepo.create(self.served, name)

    def mirrors(
        self,
        *,
        egress: Egress | None = None,
        programs: Programs | None = None,
        limits: MirrorLimits | None = None,
    ) -> Mirrors:
        """Open mirrors as the engine would; a second call is the engine after a restart."""
        return Mirrors(
            self.folder / "mirrors",
            private=self.folder / "private",
            key=b"k" * 32,
            programs=programs or Programs.of({"PATH": os.environ["PATH"]}),
            egress=egress or Egress(allow_loopback=True),
            limits=limits,
        )

    def leftovers(self) -> list[str]:
        """List what private files are still there."""
        private = self.folder / "private"
        return sorted(path.name for path in private.rglob("*")) if private.exists() else []


async def resolve(
    mirrors: Mirrors, url: str, access: GitAccess = ANONYMOUS, ref: GitReference = MAIN, timeout: float = 20
) -> Resolved:
    """Resolve with what most tests want."""
    return await mirrors.resolve(url, access, ref, timeout)


def ssh_server(bench: Bench, passphrase: str = "") -> SshGitServer:
    """Make an ssh server, or skip where sshd is not installed (in CI: fail)."""
    if not SshGitServer.available():
        missing("no sshd; install Debian's openssh-server", os.environ)
    return SshGitServer(bench.served, bench.folder / "ssh", passphrase=passphrase)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a folder for one test."""
    (tmp_path / "served").mkdir()
    return Bench(tmp_path)


__all__ = ["ANONYMOUS", "MAIN", "Bench", "GitServer", "bench", "resolve", "ssh_server"]
