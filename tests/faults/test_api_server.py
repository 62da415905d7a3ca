"""The API server restarted and etcd compacted while the engine works."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from tests.faults.small import DELETED, SmallApp
from tests.real.conftest import EngineFactory
from tests.real.flux import REQUESTED, SOURCE, wait_settled
from tests.realcluster.api import Api
from tests.realcluster.cluster import RealCluster
from tests.realcluster.tally import Tally

# How far an install has come, by what was asked of the API server about the namespace.
MOMENTS = ("finalizer", "dry run", "apply", "status")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_install_survives_a_restart_of_the_api_server(
    own_cluster: RealCluster,
    namespace: str,
    engine: EngineFactory,
    small_app: Callable[[str], SmallApp],
    moment: str,
) -> None:
    """The API server killed in the middle of an install costs nothing: when it is back, the install ends."""
    runs = engine().start()
    app = small_app(namespace)
    mark = own_cluster.mark()
    async with own_cluster.api() as api:
        await app.begin(api, "install")
    await reached(own_cluster, runs.user, mark, moment)
    # A client of the old server would be told of broken connections by warnings.
    own_cluster.kill("apiserver")
    await asyncio.sleep(1.0)
    own_cluster.start_apiserver()
    async with own_cluster.api() as api:
        await app.wait(api, 90)
        assert set((await app.end(api)).objects) == {"ConfigMap/one", "ConfigMap/two", "Service/door"}
        # It still sees and does everything: a new commit, and what it prunes.
        for operation in ("upgrade", "prune"):
            await app.begin(api, operation)
            await app.wait(api, 90)
        assert set((await app.end(api)).objects) == {"ConfigMap/one", "ConfigMap/three"}
    assert runs.alive
    deleted = {line.name for line in own_cluster.audit(runs.user, mark) if line.verb == "delete"}
    assert deleted <= DELETED["prune"]


async def reached(cluster: RealCluster, user: str, mark: int, moment: str) -> None:
    """Wait until the engine has sent the request that a moment is named for."""
    for _ in range(3000):
        for line in cluster.audit(user, mark):
            ours = line.resource == "kustomizations"
            if (
                (moment == "finalizer" and ours and line.verb == "patch" and not line.subresource)
                or (moment == "dry run" and line.dry_run)
                or (moment == "apply" and line.writes and line.resource in ("configmaps", "services"))
                or (moment == "status" and ours and line.subresource == "status")
            ):
                return
        await asyncio.sleep(0.01)
    pytest.fail(f"never came to: {moment}")


async def test_compacted_etcd_is_listed_anew(
    own_cluster: RealCluster,
    api: Api,
    namespace: str,
    engine: EngineFactory,
    small_app: Callable[[str], SmallApp],
) -> None:
    """After a compaction that makes watches expire (410), changes made meanwhile are seen all the same."""
    runs = engine().start()
    app = small_app(namespace)
    await app.begin(api, "install")
    await app.wait(api)
    mark = own_cluster.mark()
    own_cluster.stop_apiserver()
    own_cluster.compact_etcd()
    own_cluster.start_apiserver()
    async with own_cluster.api() as fresh:
        # Drift, while the watches find their way back.
        body = {"data": {"version": "edited"}}
        await fresh.patch("v1", "ConfigMap", "one", namespace, body, manager="somebody")
        await fresh.delete("v1", "ConfigMap", "two", namespace)
        for _ in range(600):
            one = await fresh.get("v1", "ConfigMap", "one", namespace)
            two = await fresh.get("v1", "ConfigMap", "two", namespace)
            if one and two and one["data"] == {"version": "1"}:
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("drift was not repaired within a minute")
        await app.begin(fresh, "upgrade")
        await app.wait(fresh, 90)
        assert set((await app.end(fresh)).objects) >= {"ConfigMap/three", "ConfigMap/one"}
    assert not [line for line in own_cluster.audit(runs.user, mark) if line.verb == "delete"]
    assert listed(own_cluster, runs.user, mark)
    assert runs.alive


async def test_a_stopped_engine_catches_up_after_a_compaction(
    own_cluster: RealCluster,
    api: Api,
    namespace: str,
    engine: EngineFactory,
    small_app: Callable[[str], SmallApp],
) -> None:
    """An engine that was frozen while etcd was compacted goes on as if nothing had happened."""
    runs = engine(flags={"lease-duration": "60s", "lease-renew-interval": "10s"}).start()
    app = small_app(namespace)
    await app.begin(api, "install")
    await app.wait(api)
    mark = own_cluster.mark()
    runs.signal(signal.SIGSTOP)
    # The watches of a process that reads nothing are cut by the restart, and their versions forgotten.
    own_cluster.stop_apiserver()
    own_cluster.start_apiserver()
    async with own_cluster.api() as fresh:
        for number in range(300):
            asked = {"metadata": {"annotations": {REQUESTED: f"t{number}"}}}
            await fresh.patch(SOURCE, "GitRepository", "app", namespace, asked, manager="somebody")
        await fresh.delete("v1", "ConfigMap", "two", namespace)
        own_cluster.compact_etcd()
        own_cluster.stop_apiserver()
        own_cluster.start_apiserver()
        runs.signal(signal.SIGCONT)
    async with own_cluster.api() as fresh:
        await wait_settled(fresh, "GitRepository", "app", namespace, token="t299", patience=90)
        for _ in range(600):
            if await fresh.get("v1", "ConfigMap", "two", namespace) is not None:
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("the missing object was not made again within a minute")
    assert listed(own_cluster, runs.user, mark)
    assert runs.alive


def listed(cluster: RealCluster, user: str, mark: int) -> set[str]:
    """Give the kinds that an engine listed: a watch that went on where it was would need no list."""
    return {line.resource for line in Tally.of(cluster.audit(user, mark)).lists}
