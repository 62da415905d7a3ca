"""Fixtures on a real Kubernetes API server: the cluster, namespaces, Git, and engines."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.real.cli_tools import Cli
from tests.real.engine import Engine
from tests.real.scrub import scrub
from tests.realcluster.api import Api
from tests.realcluster.build import BuildError, build
from tests.realcluster.cluster import ExternalCluster, KubectlError, RealCluster
from tests.realcluster.pods import PodActor
from tests.servers.git import GitServer

AnyCluster = RealCluster | ExternalCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Iterator[AnyCluster]:
    """The cluster of the whole run, with Flux's kinds defined in it.

    A control plane of our own, or the cluster that GITWRIGHT_TEST_KUBECONFIG names.
    """
    folder = tmp_path_factory.mktemp("cluster")
    with _started(folder) as found:
        define(found, corpus / "crds")
        yield found


def define(cluster: AnyCluster, folder: Path) -> None:
    """Apply a folder of definitions and wait until the API server serves them."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(folder))
    for attempt in range(20):
        try:
            cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            return
        except KubectlError as error:
            # kubectl gives up on a definition that is so new that it has no conditions at all.
            if "accessor error" not in str(error) or attempt == 19:
                raise
            time.sleep(0.2)


def _started(folder: Path) -> AnyCluster:
    named = os.environ.get("GITWRIGHT_TEST_KUBECONFIG")
    if named:
        return ExternalCluster(folder, Path(named).resolve())
    try:
        return RealCluster(folder, build(os.environ))
    except BuildError as error:
        missing(str(error), os.environ)
        raise


@pytest.fixture
def own_cluster(cluster: AnyCluster) -> RealCluster:
    """The cluster, when it may be broken and its audit log read; else the test is skipped."""
    if not isinstance(cluster, RealCluster):
        pytest.skip("needs a cluster of our own; GITWRIGHT_TEST_KUBECONFIG names another's")
    return cluster


@pytest.fixture
async def api(cluster: AnyCluster) -> AsyncIterator[Api]:
    """A client of the cluster's administrator, independent of gitwright."""
    async with cluster.api() as client:
        yield client


@pytest.fixture
def namespace(cluster: AnyCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace, taken away afterwards even if no engine finalizes what is in it."""
    words = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower())
    name = f"t-{words.strip('-')[:40].strip('-')}-{os.urandom(2).hex()}"
    cluster.kubectl("create", "namespace", name)
    yield name

    async def clean() -> None:
        async with cluster.api() as client:
            await scrub(client, name)

    asyncio.run(clean())


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A Git server over HTTP, for the whole run; repositories are made on it by `GitRepo.create`."""
    with GitServer(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture
def pods(cluster: AnyCluster) -> Iterator[PodActor]:
    """Pods become Running and Ready, or fail as their annotation asks; without it there is no node."""
    with PodActor(cluster.api) as actor:
        yield actor


EngineFactory = Callable[..., Engine]


@contextmanager
def engines(cluster: AnyCluster, folder: Path, label: str) -> Iterator[EngineFactory]:
    """Give a function that makes engines, and stop all of them at the end.

    Args:
        cluster: that they run on.
        folder: for what they write.
        label: makes their runtime namespaces unlike those of other tests.
    """
    made: list[Engine] = []

    def make(
        *,
        namespace: str = "",
        user: str = "",
        rights: str = "cluster-admin",
        kubeconfig: Path | None = None,
        flags: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Engine:
        """Make an engine that is not started yet; two that name one `namespace` share its leases."""
        engine = Engine(
            cluster=cluster,
            folder=folder / f"engine-{len(made)}",
            namespace=namespace or f"run-{label}-{len(made)}",
            user=user or cluster.fresh_user(),
            rights=rights,
            kubeconfig=kubeconfig,
            flags=flags or {},
            environment=environment or {},
        )
        made.append(engine)
        return engine

    try:
        yield make
    finally:
        for engine in made:
            engine.stop()
            # Shown by pytest when the test fails.
            sys.stdout.write(f"--- log of {engine.folder.name}\n{engine.log_text()[-6000:]}\n")


@pytest.fixture
def engine(cluster: AnyCluster, tmp_path: Path) -> Iterator[EngineFactory]:
    """Makes engines: `engine().start()`; each has a user, a runtime namespace and storage of its own."""
    with engines(cluster, tmp_path, os.urandom(3).hex()) as make:
        yield make


@pytest.fixture
def cli(cluster: AnyCluster, namespace: str, tmp_path: Path) -> Cli:
    """The command line, with an empty home and the test's namespace."""
    return Cli(cluster, tmp_path, namespace)
