"""Fixtures of the fault tests: those of tests/real, and an engine behind a proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.small import SmallApp
from tests.real.conftest import (
    AnyCluster,
    api,
    cluster,
    engine,
    engines,
    git_server,
    namespace,
    own_cluster,
)
from tests.real.engine import Engine
from tests.realcluster.cluster import RealCluster
from tests.servers.api_proxy import ApiProxy
from tests.servers.git import GitServer

__all__ = ["api", "cluster", "engine", "git_server", "namespace", "own_cluster"]

ProxiedFactory = Callable[..., tuple[Engine, ApiProxy]]


@pytest.fixture
def proxied(own_cluster: RealCluster, tmp_path: Path) -> Iterator[ProxiedFactory]:
    """Makes an engine that reaches the API server through a proxy of its own; not started yet."""
    # The proxies end last: an engine that stops would wait for one that is gone already.
    with ExitStack() as outer, engines(own_cluster, tmp_path, "proxied") as make:

        def both(flags: Mapping[str, str] | None = None) -> tuple[Engine, ApiProxy]:
            user = own_cluster.fresh_user()
            _bind(own_cluster, user)
            folder = tmp_path / f"proxy-{user}"
            proxy = ApiProxy(own_cluster.server, own_cluster.folder / "pki" / "ca.crt", folder)
            outer.enter_context(proxy)
            config = proxy.kubeconfig(folder / "kubeconfig", own_cluster.token(user))
            space = f"run-{user}"
            return make(user=user, kubeconfig=config, namespace=space, flags=flags or {}), proxy

        yield both


def _bind(cluster: AnyCluster, user: str) -> None:
    """Make a user an administrator: an engine with a kubeconfig of its own is not bound by `Engine`."""
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"gitwright-test-{user}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(binding))


@pytest.fixture
def small_app(git_server: GitServer) -> Callable[[str], SmallApp]:
    """Makes the repository of a small application for a namespace."""
    return lambda namespace: SmallApp(git_server, namespace)
