"""`make bench`: install, a pass that finds nothing, and commit to applied, as ratios.

Role: runs gitwright and the trace peer one after the other, each on a fresh control plane of its
own, and prints what each needed and peer / gitwright. It asserts no times: they are the
machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import corpus_path
from tests.real.engine import Engine
from tests.real.fleet import Fleet, app_name, overlay, overlay_path, together
from tests.real.flux import REQUESTED
from tests.realcluster.api import Api
from tests.realcluster.build import build
from tests.realcluster.cluster import RealCluster
from tests.realcluster.tally import Tally
from tests.servers.git import GitServer

from bench.peer import KUSTOMIZE, TracePeer

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one case took.

    Args:
        seconds: by the wall clock; of several tries the median.
        requests: sent to the API server, without lists, watches, leases and discovery.
        cpu: seconds of processor time of the contestant.
        server: seconds of processor time of API server and etcd.
    """

    seconds: float
    requests: float
    cpu: float
    server: float


class Meter:
    """Measures one case: processor time and requests from its creation on.

    Args:
        cluster: that it runs on.
        user: whose requests are counted.
        pid: of the contestant; its own and its ended children's time is counted.
    """

    def __init__(self, cluster: RealCluster, user: str, pid: int) -> None:
        self._cluster, self._user, self._pid = cluster, user, pid
        self._mark = cluster.mark()
        self._began = self._times()

    def cost(self, seconds: float, share: int = 1) -> Cost:
        """Give what was needed since, divided by `share` tries."""
        own, server = self._times()
        tally = Tally.of(self._cluster.audit(self._user, self._mark))
        # What it would not send without being asked is not left out: Flux lists in each pass.
        requests = len(tally.requests) + sum("labelSelector=app.kube" in line.uri for line in tally.lists)
        return Cost(
            seconds,
            requests / share,
            (own - self._began[0]) / share,
            (server - self._began[1]) / share,
        )

    def _times(self) -> tuple[float, float]:
        server = sum(cpu_seconds(self._cluster.pid(role)) for role in ("apiserver", "etcd"))
        return cpu_seconds(self._pid), server


def cpu_seconds(pid: int) -> float:
    """Give the processor time of a process and its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


@contextmanager
def fresh_cluster(folder: Path, corpus: Path) -> Iterator[RealCluster]:
    """Start a control plane with Flux's kinds."""
    with RealCluster(folder, build(os.environ)) as cluster:
        cluster.kubectl("apply", "--server-side", "-f", str(corpus / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield cluster


def measure_gitwright(folder: Path, corpus: Path, apps: int, pushes: int) -> dict[str, Cost]:
    """Run all cases with gitwright."""
    with fresh_cluster(folder / "cluster", corpus) as cluster, GitServer(folder / "git") as git:
        engine = Engine(
            cluster=cluster,
            folder=folder / "engine",
            namespace="bench-system",
            user=cluster.fresh_user(),
            flags={"lease-duration": "35s", "lease-renew-interval": "10s"},
        )
        fleet = Fleet(cluster, git, corpus, "bench", apps)
        with engine.start():
            return fleet.run(lambda api: _gitwright(fleet, engine, api, apps, pushes))


async def _gitwright(fleet: Fleet, engine: Engine, api: Api, apps: int, pushes: int) -> dict[str, Cost]:
    found: dict[str, Cost] = {}
    await fleet.prepare(api)

    def meter() -> Meter:
        return Meter(fleet.cluster, engine.user, engine.pid)

    gauge = meter()
    found["install"] = gauge.cost(await fleet.install(api, range(apps)), apps)
    await fleet.quiet(engine.user)
    gauge = meter()
    found["nothing new"] = gauge.cost(await fleet.force(api, range(apps)), apps)
    await fleet.quiet(engine.user)
    gauge, times = meter(), []
    for push in range(pushes):
        number, tag = (push * 7) % apps, f"6.6.{push}"
        fleet.push({overlay_path(number): overlay(tag=tag)})
        began = time.monotonic()
        body = {"metadata": {"annotations": {REQUESTED: f"push-{push}"}}}
        await api.patch(
            "source.toolkit.fluxcd.io/v1", "GitRepository", "apps", fleet.namespace, body, manager="flux"
        )
        await _deployed(api, fleet.namespace, number, tag)
        times.append(time.monotonic() - began)
        await fleet.wait(api, range(apps))
    found["commit to applied"] = gauge.cost(statistics.median(times), pushes)
    return found


async def _deployed(api: Api, namespace: str, number: int, tag: str) -> None:
    """Wait until a Deployment has an image, by a watch."""
    wanted = f"podinfo-{number:03}"
    async with asyncio.timeout(120):
        async for change in api.watch("apps/v1", "Deployment", namespace):
            obj = change["object"]
            if obj["metadata"]["name"] == wanted:
                image: str = obj["spec"]["template"]["spec"]["containers"][0]["image"]
                if image.endswith(f":{tag}"):
                    return


def measure_peer(folder: Path, corpus: Path, apps: int, pushes: int) -> dict[str, Cost]:
    """Run all cases with the trace peer."""
    with fresh_cluster(folder / "cluster", corpus) as cluster:
        return asyncio.run(_peer(cluster, corpus, apps, pushes))


async def _peer(cluster: RealCluster, corpus: Path, apps: int, pushes: int) -> dict[str, Cost]:
    found: dict[str, Cost] = {}
    order = random.Random(1)
    async with cluster.api() as admin, cluster.api("user") as own:
        peer = TracePeer(own, corpus, "bench")
        await admin.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "bench"}})
        spec = {
            "interval": "10m",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "apps"},
        }

        def meter() -> Meter:
            return Meter(cluster, "user", os.getpid())

        # It is part of both contestants' time that somebody makes the objects.
        gauge, began = meter(), time.monotonic()
        await together(
            (
                admin.apply(
                    {
                        "apiVersion": KUSTOMIZE,
                        "kind": "Kustomization",
                        "metadata": {"name": app_name(number), "namespace": "bench"},
                        "spec": spec,
                    },
                    manager="test",
                )
                for number in range(apps)
            ),
            at_once=16,
        )
        await peer.pass_over(range(apps), install=True)
        found["install"] = gauge.cost(time.monotonic() - began, apps)
        gauge = meter()
        found["nothing new"] = gauge.cost(await peer.pass_over(range(apps), install=False), apps)
        gauge, times = meter(), []
        for push in range(pushes):
            numbers = order.sample(range(apps), apps)
            times.append(await peer.commit(numbers, (push * 7) % apps, f"{200 + push}m"))
        found["commit to applied"] = gauge.cost(statistics.median(times), pushes)
    return found


def show(ours: dict[str, Cost], peers: dict[str, Cost], apps: int, pushes: int) -> None:
    """Print a table of figures and ratios."""
    print(
        f"{apps} applications of four objects, {pushes} commits; ratio: peer / gitwright; "
        "the peer replays the requests of Flux 2.9 and neither fetches, renders nor waits"
    )
    print(f"{'case':20}{'figure':30}{'gitwright':>12}{'peer':>12}{'ratio':>12}")
    figures: tuple[tuple[str, Callable[[Cost], float]], ...] = (
        ("seconds", lambda cost: cost.seconds),
        ("requests", lambda cost: cost.requests),
        ("own CPU seconds", lambda cost: cost.cpu),
        ("server CPU seconds", lambda cost: cost.server),
    )
    for case, mine in ours.items():
        unit = "per commit" if case == "commit to applied" else "per app"
        for name, get in figures:
            left, right = get(mine), get(peers[case])
            label = name if name == "seconds" else f"{name} {unit}"
            ratio = f"{right / left:.1f}" if left else "-"
            print(f"{case:20}{label:30}{left:>12.3f}{right:>12.3f}{ratio:>12}")


def main(argv: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--apps", type=int, default=50, help="applications (default 50)")
    parser.add_argument("--pushes", type=int, default=10, help="commits (default 10)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(argv)
    corpus = corpus_path(os.environ)
    if not corpus.is_dir():
        print(f"no corpora at {corpus}; name their folder in GITWRIGHT_CORPUS", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="gitwright-bench-") as name:
        folder = Path(name)
        peers = measure_peer(folder / "peer", corpus, options.apps, options.pushes)
        ours = measure_gitwright(folder / "own", corpus, options.apps, options.pushes)
    show(ours, peers, options.apps, options.pushes)
    if options.json:
        figures = {
            who: {case: [cost.seconds, cost.requests, cost.cpu, cost.server] for case, cost in costs.items()}
            for who, costs in (("gitwright", ours), ("peer", peers))
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
