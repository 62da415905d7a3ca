"""Tools of the tests of the command line: running it, and objects with statuses to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.realcluster.cluster import Cluster

SHA = "696f056df216eea4f9401adbee0ff744d4df390f"
REVISION = f"main@sha1:{SHA}"


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONPATH")}
    return {**kept, "HOME": str(home), "LC_ALL": "C.UTF-8"}


class Cli:
    """Runs the command line as a process of its own, as a user of the cluster.

    Args:
        cluster: the cluster.
        home: an empty home directory.
        namespace: the namespace given with `-n`.
    """

    def __init__(self, cluster: Cluster, home: Path, namespace: str) -> None:
        self.cluster = cluster
        self.home = home
        self.namespace = namespace

    def command(self, *arguments: str, user: str = "admin") -> list[str]:
        connection = ["--kubeconfig", str(self.cluster.kubeconfig(user)), "-n", self.namespace]
        return [sys.executable, "-m", "gitwright", *connection, *arguments]

    def __call__(self, *arguments: str, user: str = "admin") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, user=user),
            env=environment(self.home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env=environment(self.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def apply(cli: Cli, *objects: dict[str, Any]) -> None:
    cli.cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(objects))


def kustomization(cli: Cli, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": cli.namespace},
        "spec": {
            "interval": "10m",
            "path": "./deploy",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "repo"},
            **spec,
        },
    }


def git_repository(cli: Cli, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": name, "namespace": cli.namespace},
        "spec": {"interval": "10m", "url": "https://example.com/repo", "ref": {"branch": "main"}},
    }


def live(cli: Cli, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        cli.cluster.kubectl("get", kind, name, "-n", cli.namespace, "-o", "json", "--show-managed-fields")
    )
    return found


def report(cli: Cli, kind: str, name: str, ready: str, message: str, **status: Any) -> None:
    """Write an object's status as an engine would, for its present generation."""
    generation = live(cli, kind, name)["metadata"]["generation"]
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "Test",
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    body = {"status": {"conditions": [condition], "observedGeneration": generation, **status}}
    cli.cluster.kubectl(
        "patch",
        kind,
        name,
        "-n",
        cli.namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps(body),
    )


def when(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Act in the background as soon as a condition holds, within 30 seconds."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while not condition():
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def requested(cli: Cli, kind: str, name: str) -> str:
    annotations = live(cli, kind, name)["metadata"].get("annotations", {})
    return str(annotations.get("reconcile.fluxcd.io/requestedAt", ""))


def artifact(revision: str) -> dict[str, Any]:
    return {
        "revision": revision,
        "digest": "sha256:" + "0" * 64,
        "path": "gitrepository/a/b/c.tar.gz",
        "url": "http://localhost/c.tar.gz",
        "lastUpdateTime": "2026-01-01T00:00:00Z",
    }
