"""Runs gitwright as a user would: a child process with its own identity, storage and leases.

Role: starts, kills and stops `python -m gitwright run` for tests, and reads its log. Knows
the flags and nothing of the inside.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.realcluster.cluster import Cluster, kubectl
from tests.realcluster.processes import Process, free_port


@dataclass
class Engine:
    """One engine; a context manager that starts and stops it.

    Args:
        cluster: that it runs on.
        folder: for its storage, log and home; kept over restarts.
        namespace: its runtime namespace, where its leases are; made when missing.
        user: as whom it speaks to the API server; counted in the audit log.
        rights: ClusterRole that the user is bound to; empty binds none.
        kubeconfig: use this file instead of the user's.
        flags: further flags, without dashes -> value.
        environment: further variables.
    """

    cluster: Cluster
    folder: Path
    namespace: str
    user: str
    rights: str = "cluster-admin"
    kubeconfig: Path | None = None
    flags: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.storage = self.folder / "storage"
        self.log_file = self.folder / "engine.log"
        self.health_port = free_port()
        self.storage_port = free_port({self.health_port})
        self._process: Process | None = None

    # -- life ------------------------------------------------------------------------------

    def start(self, *, ready: bool = True, patience: float = 60.0) -> Engine:
        """Start it.

        Args:
            ready: wait until /readyz says 200.
            patience: seconds to wait for that.

        Raises:
            RuntimeError: it ended or is not ready in time; with the end of its log.
        """
        self._permit()
        argv = [sys.executable, "-m", "gitwright", "run"]
        argv += [f"--{name}={value}" for name, value in self._all_flags().items()]
        self._process = Process("gitwright", argv, self.log_file, environment=self._all_variables())
        if ready:
            self.wait_ready(patience)
        return self

    def stop(self, patience: float = 60.0) -> int:
        """Ask it to end (SIGTERM) and give its exit code; harmless when it does not run."""
        process, self._process = self._process, None
        return process.stop(patience) if process is not None else 0

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        self._running().signal(number)

    def restart(self) -> Engine:
        """Stop it and start it again over the same storage."""
        self.stop()
        return self.start()

    def __enter__(self) -> Engine:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- what it says ----------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.exit_code is None

    def wait_ready(self, patience: float = 60.0) -> None:
        """Wait until /readyz says 200.

        Raises:
            RuntimeError: it ended or is not ready in time; with the end of its log.
        """
        process = self._running()
        end = time.monotonic() + patience
        while time.monotonic() < end and process.exit_code is None:
            if self.get("/readyz")[0] == 200:
                return
            time.sleep(0.1)
        raise RuntimeError(f"the engine is not ready\n{process.tail()}")

    def get(self, path: str) -> tuple[int, str]:
        """Ask its health server; gives status and body, status 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def log(self) -> list[dict[str, Any]]:
        """Give its log so far; a line that is not JSON becomes `{"event": line}`."""
        found = []
        for line in self.log_file.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            found.append(entry if isinstance(entry, dict) else {"event": line})
        return found

    def log_text(self) -> str:
        """Give its log so far as it is."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def memory(self) -> int:
        """Give its resident bytes, children not counted."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    # -- starting --------------------------------------------------------------------------

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the engine does not run")
        return self._process

    def _all_flags(self) -> dict[str, str]:
        return {
            "kubeconfig": str(self.kubeconfig or self.cluster.kubeconfig(self.user)),
            "runtime-namespace": self.namespace,
            "storage-path": str(self.storage),
            "storage-addr": f"127.0.0.1:{self.storage_port}",
            "health-addr": f"127.0.0.1:{self.health_port}",
            "allow-loopback-sources": "true",
            "log-encoding": "json",
            # A test that kills an engine must not wait 35 s for its lease.
            "lease-duration": "5s",
            "lease-renew-interval": "1s",
            "lease-retry-interval": "500ms",
            **self.flags,
        }

    def _all_variables(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def _permit(self) -> None:
        """Make the runtime namespace and bind the user to its role."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        objects: list[dict[str, Any]] = [namespace]
        if self.rights and self.cluster.own and self.kubeconfig is None:
            group = "rbac.authorization.k8s.io"
            objects.append(
                {
                    "apiVersion": f"{group}/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": f"gitwright-test-{self.user}"},
                    "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": self.rights},
                    "subjects": [{"apiGroup": group, "kind": "User", "name": self.user}],
                }
            )
        documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        kubectl(self.cluster.kubeconfig(), ["apply", "--server-side", "-f", "-"], documents)
