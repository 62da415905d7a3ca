"""What the engine asks of the API server, counted in the audit log, over 200 applications of one repository.

Left out of every count, and said here once: LIST requests, WATCH requests, and requests
about Leases (the engine's own user sends them all); discovery is no request about an object,
so it has a limit of its own where it can occur. Everything else the engine's user sends is
counted: reads of single objects, dry runs, writes of any kind, Events, and what failed.
What the controller manager and the test itself send goes by other users.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.conftest import engines
from tests.real.engine import Engine
from tests.real.fleet import REPOSITORY, Fleet, app_name, overlay, overlay_path, together
from tests.real.flux import JSON, REQUESTED
from tests.realcluster.api import Api
from tests.realcluster.audit import AuditLine
from tests.realcluster.build import build
from tests.realcluster.cluster import RealCluster
from tests.realcluster.tally import Tally
from tests.servers.git import GitServer

COUNTED = 100
ALL = 200
MINUTES = 5.0
UNRELATED = 10_000
TOKEN = "metrics-token-of-this-test"


@dataclass
class Scene:
    """The installed applications, their engine, and what was counted while they were installed."""

    fleet: Fleet
    engine: Engine
    installed: Tally

    @property
    def cluster(self) -> RealCluster:
        return self.fleet.cluster

    def tally(self, mark: int) -> Tally:
        return Tally.of(self.cluster.audit(self.engine.user, mark))

    def builds(self) -> dict[str, float]:
        """Give the engine's own count of builds by outcome."""
        url = f"http://127.0.0.1:{self.engine.health_port}/metrics"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith("gitwright_builds_total{")]
        return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in found}


@pytest.fixture(scope="module")
def scene(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """200 settled applications on a cluster of their own, whose audit log is read."""
    if os.environ.get("GITWRIGHT_TEST_KUBECONFIG"):
        pytest.skip("needs the audit log of a cluster of our own")
    folder = tmp_path_factory.mktemp("counts")
    with (
        RealCluster(folder / "cluster", build(os.environ)) as cluster,
        GitServer(folder / "git") as git,
        engines(cluster, folder, "counts") as make,
    ):
        cluster.kubectl("apply", "--server-side", "-f", str(corpus / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        token = folder / "token"
        token.write_text(TOKEN)
        # Old artifacts go at the next look at the source, which is told by an Event, and not minutes later.
        flags = {"metrics-token-file": str(token), "artifact-retention-ttl": "1s"}
        engine = make(flags=flags).start()
        fleet = Fleet(cluster, git, corpus, "fleet", ALL)
        yield Scene(fleet, engine, _install(fleet, engine))


def _install(fleet: Fleet, engine: Engine) -> Tally:
    """Install all, and count the first hundred together with their GitRepository."""
    mark = fleet.cluster.mark()
    user = engine.user

    async def first(api: Api) -> Tally:
        await fleet.prepare(api)
        await fleet.install(api, range(COUNTED))
        await fleet.quiet(user)
        return Tally.of(fleet.cluster.audit(user, mark))

    async def rest(api: Api) -> None:
        await fleet.install(api, range(COUNTED, ALL))
        await fleet.quiet(user)

    counted = fleet.run(first)
    fleet.run(rest)
    return counted


def about(tally: Tally, number: int) -> tuple[AuditLine, ...]:
    """Give the requests about one application: its Kustomization, its objects, its Events."""
    return tally.about(app_name(number), f"podinfo-{number:03}")


def report(title: str, tally: Tally) -> None:
    print(f"\n{title}\n{tally.table()}")  # noqa: T201 - shown with -rP and on failure


def test_installing_an_app_costs_at_most_14_requests(scene: Scene) -> None:
    """Installing 100 applications costs at most 14 requests each, with those about their GitRepository."""
    report("install of 100", scene.installed)
    assert len(scene.installed.requests) / COUNTED <= 14
    assert len(scene.installed.discovery) <= 10, [line.uri for line in scene.installed.discovery]


async def test_a_forced_pass_over_a_settled_app_costs_at_most_2_requests(scene: Scene) -> None:
    """A reconciliation asked for by annotation costs a settled application one status write and one event."""
    mark = scene.cluster.mark()
    async with scene.cluster.api() as api:
        await scene.fleet.force(api, range(COUNTED))
        await scene.fleet.quiet(scene.engine.user)
    tally = scene.tally(mark)
    report("forced pass over 100", tally)
    assert len(tally.requests) / COUNTED <= 2
    assert not tally.dry_runs
    assert not tally.discovery


@pytest.mark.parametrize(
    ("number", "content", "limit"),
    [(7, overlay(service_note="changed"), 6), (8, overlay(tag="6.5.4"), 7)],
    ids=["service", "deployment"],
)
async def test_a_commit_costs_only_the_app_it_changes(
    scene: Scene, number: int, content: str, limit: int
) -> None:
    """A commit that changes one object costs its Kustomization 6 requests (7 when it must wait), others 2."""
    builds, mark = scene.builds(), scene.cluster.mark()
    async with scene.cluster.api() as api:
        scene.fleet.push({overlay_path(number): content})
        await scene.fleet.nudge(api)
        await scene.fleet.wait(api, range(ALL))
        await scene.fleet.quiet(scene.engine.user)
    tally = scene.tally(mark)
    report(f"commit that changes app {number}", tally)
    sent = about(tally, number)
    assert len(sent) <= limit, [str(line) for line in sent]
    for other in (name for name in range(ALL) if name != number):
        found = sorted((line.resource, line.subresource) for line in about(tally, other))
        assert found == [("events", ""), ("kustomizations", "status")], f"{app_name(other)}: {found}"
    # One status write and one event of the GitRepository itself, and perhaps one of what it threw away.
    assert len(tally.about(REPOSITORY)) <= 3, [str(line) for line in tally.about(REPOSITORY)]
    after = scene.builds()
    assert after.get("miss", 0) - builds.get("miss", 0) == 1, (builds, after)
    assert after.get("error", 0) == builds.get("error", 0)


async def test_the_app_that_a_commit_changes_does_not_queue_behind_the_others(scene: Scene) -> None:
    """The last of 200 applications, if a commit changes it alone, is begun before the others.

    While its build takes its time three other workers go on, so it need not be the first to end;
    in its turn it would be the last.
    """
    mark, number = scene.cluster.mark(), ALL - 1
    async with scene.cluster.api() as api:
        scene.fleet.push({overlay_path(number): overlay(service_note="first")})
        await scene.fleet.nudge(api)
        await scene.fleet.wait(api, range(ALL))
        await scene.fleet.quiet(scene.engine.user)
    writes = scene.tally(mark).writes
    applied = next(place for place, line in enumerate(writes) if line.resource == "services")
    told = [line for line in writes[:applied] if line.resource == "kustomizations"]
    print(f"{len(told)} told before")  # noqa: T201 - shown with -rP
    assert len(told) < ALL * 0.9


async def test_drift_costs_one_apply_and_one_event(scene: Scene) -> None:
    """Somebody else's change of an owned field is undone by one apply and told by one event."""
    tally = await drifted(scene, 21, "somebody")
    assert kinds(tally) == ["events", "services"], tally.table()


async def test_drift_by_kubectl_costs_a_patch_of_managed_fields_more(scene: Scene) -> None:
    """A change with kubectl edit costs one patch of managedFields, one apply and one event."""
    tally = await drifted(scene, 22, "kubectl-edit")
    assert kinds(tally) == ["events", "services", "services"], tally.table()


async def drifted(scene: Scene, number: int, manager: str) -> Tally:
    """Change a port of a Service and count what the repair costs."""
    name, space = f"podinfo-{number:03}", scene.fleet.namespace
    async with scene.cluster.api() as api:
        await scene.fleet.quiet(scene.engine.user)
        mark = scene.cluster.mark()
        edit = [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 1234}]
        await api.patch("v1", "Service", name, space, edit, manager=manager, how="json")
        for _ in range(100):
            found = await api.get("v1", "Service", name, space)
            if found and found["spec"]["ports"][0]["targetPort"] == "http":
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("not repaired within 10 s")
        await scene.fleet.quiet(scene.engine.user)
    tally = scene.tally(mark)
    report(f"drift by {manager}", tally)
    assert not tally.dry_runs
    return tally


def kinds(tally: Tally) -> list[str]:
    return sorted(line.resource for line in tally.requests)


async def test_a_restart_over_settled_apps_writes_nothing(scene: Scene) -> None:
    """A restart over 200 settled applications lists and watches, and neither writes nor dry-runs anything."""
    await tidied(scene)
    mark = scene.cluster.mark()
    await restarted(scene)
    tally = scene.tally(mark)
    report("restart over 200", tally)
    assert not tally.requests, [str(line) for line in tally.requests[:20]]
    assert len(tally.discovery) <= 4
    # It has looked at all of them, not slept: an edit is undone, a build is known.
    assert sum(scene.builds().values()) >= ALL


async def tidied(scene: Scene) -> None:
    """Look at the source once more, so that artifacts of earlier commits are collected now."""
    await asyncio.sleep(1.5)
    async with scene.cluster.api() as api:
        await scene.fleet.nudge(api)
    await scene.fleet.quiet(scene.engine.user)


async def restarted(scene: Scene) -> None:
    """Restart the engine and wait until it has looked at every application."""
    await asyncio.to_thread(scene.engine.stop)
    # Processes hang on the main thread, so it is started there.
    scene.engine.start()
    for _ in range(1200):
        if sum(scene.builds().values()) >= ALL:
            break
        await asyncio.sleep(0.25)
    else:
        pytest.fail("the engine has not looked at all applications within 5 minutes")
    await scene.fleet.quiet(scene.engine.user, 3.0)


@pytest.mark.slow
async def test_settled_apps_cost_nothing_for_five_minutes(scene: Scene) -> None:
    """200 settled Kustomizations of `interval: 1m` send nothing but leases and watches for five minutes."""
    await tidied(scene)
    mark = scene.cluster.mark()
    await asyncio.sleep(MINUTES * 60)
    tally = scene.tally(mark)
    report("five minutes over 200", tally)
    assert not tally.requests, [str(line) for line in tally.requests[:20]]
    assert not tally.lists, [line.uri for line in tally.lists[:20]]
    assert not tally.discovery, [line.uri for line in tally.discovery[:20]]
    assert tally.leases


async def test_unrelated_objects_change_neither_counts_nor_memory(scene: Scene) -> None:
    """10,000 objects that are not ours change neither requests nor memory by more than a tenth.

    Half of them are of a kind that we manage objects of, so that a watch could see them.
    """
    await tidied(scene)
    async with scene.cluster.api() as api:
        await restarted(scene)
        fresh = await memory(scene.engine)
        before = await forced(scene, api)
        running = await memory(scene.engine)
        await make_unrelated(api, UNRELATED)
        await scene.fleet.quiet(scene.engine.user)
        crowded = await memory(scene.engine)
        after = await forced(scene, api)
        mark = scene.cluster.mark()
        await restarted(scene)
        again = scene.tally(mark)
        crowded_fresh = await memory(scene.engine)
    report("restart among 10,000 unrelated objects", again)
    sizes = {"fresh": fresh, "running": running, "crowded": crowded, "crowded, fresh": crowded_fresh}
    print({name: f"{size / 2**20:.1f} MiB" for name, size in sizes.items()})  # noqa: T201 - shown with -rP
    assert after <= before * 1.1
    assert not again.requests
    assert crowded <= running * 1.1
    assert crowded_fresh <= fresh * 1.1


async def forced(scene: Scene, api: Api) -> int:
    """Count the requests of one forced pass over ten applications."""
    mark = scene.cluster.mark()
    await scene.fleet.force(api, range(10))
    await scene.fleet.quiet(scene.engine.user)
    return len(scene.tally(mark).requests)


async def memory(engine: Engine) -> float:
    """Give the middle of some readings, since memory is given back at its own time."""
    found = []
    for _ in range(5):
        found.append(engine.memory())
        await asyncio.sleep(0.5)
    return statistics.median(found)


async def make_unrelated(api: Api, count: int) -> None:
    """Make objects in namespaces of their own, half ConfigMaps, half ServiceAccounts."""
    spaces = [f"crowd-{number}" for number in range(5)]
    for space in spaces:
        body: JSON = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
        await api.request("POST", "/api/v1/namespaces", body=body)

    def one(number: int) -> tuple[str, JSON]:
        metadata = {"name": f"object-{number:05}", "annotations": {REQUESTED: "not for us"}}
        plural, kind = ("configmaps", "ConfigMap") if number % 2 else ("serviceaccounts", "ServiceAccount")
        content: JSON = {"data": {"text": "x" * 500}} if number % 2 else {}
        path = f"/api/v1/namespaces/{spaces[number % len(spaces)]}/{plural}"
        return path, {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}

    made = (one(number) for number in range(count))
    await together((api.request("POST", path, body=body) for path, body in made), at_once=32)
