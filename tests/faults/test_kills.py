"""The engine killed at each call of an install, an upgrade and a prune ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.faults.conftest import ProxiedFactory
from tests.faults.small import DELETED, End, Operation, SmallApp, make_namespace
from tests.real.engine import Engine
from tests.real.scrub import scrub
from tests.realcluster.api import Api
from tests.realcluster.cluster import RealCluster
from tests.servers.api_proxy import ApiProxy, Call, Cut, Fault, Innocent, namespace_of

Moment = Literal["before", "after"]
OPERATIONS: tuple[Operation, ...] = ("install", "upgrade", "prune")
FAST = {"lease-duration": "1s", "lease-renew-interval": "300ms", "lease-retry-interval": "100ms"}
QUIET = 0.6


class KillAt:
    """Kills the engine at one call about one namespace: just before it is forwarded, or just after.

    Writes and dry runs are counted; after the server has acted only writes are, since a dry
    run has changed nothing. A number of 0 kills never.

    Args:
        namespace: calls about it are counted.
        number: of the call, from 1.
        moment: before or after the server has acted.
        kill: ends the engine at once.
    """

    def __init__(self, namespace: str, number: int, moment: Moment, kill: Callable[[], None]) -> None:
        self.counted: list[Call] = []
        self.fired: Call | None = None
        self._namespace = namespace
        self._number = number
        self._moment = moment
        self._kill = kill

    def before(self, call: Call) -> Fault | None:
        """Kill before the call that is meant; nothing gets through any more after a kill."""
        if self.fired is not None:
            return Cut()
        return self._judge(call) if self._moment == "before" else None

    def after(self, call: Call) -> Fault | None:
        """Kill after the call that is meant."""
        if self.fired is not None:
            return Cut()
        return self._judge(call) if self._moment == "after" and call.writes else None

    def _judge(self, call: Call) -> Fault | None:
        if call.of_lease or call.method == "GET" or namespace_of(call) != self._namespace:
            return None
        self.counted.append(call)
        if len(self.counted) != self._number:
            return None
        self.fired = call
        self._kill()
        return Cut()


class Killing:
    """An engine behind a proxy, and what it takes to kill it and to judge the end.

    Args:
        cluster: whose audit log tells of deletions.
        engine: runs already.
        proxy: between the two.
        api: of the administrator.
    """

    def __init__(self, cluster: RealCluster, engine: Engine, proxy: ApiProxy, api: Api) -> None:
        self.cluster = cluster
        self.engine = engine
        self.proxy = proxy
        self.api = api

    async def operate(self, app: SmallApp, operation: Operation, number: int, moment: Moment) -> KillAt:
        """Do an operation, kill the engine at a call, start it again, and wait for the end."""
        pid = self.engine.pid
        rule = KillAt(app.namespace, number, moment, lambda: os.kill(pid, signal.SIGKILL))
        self.proxy.rule = rule
        await app.begin(self.api, operation)
        await self._settle(app, rule)
        if rule.fired is not None:
            self.engine.kill()
            self.proxy.rule = Innocent()
            self.engine.start()
            await self._settle(app, None)
        self.proxy.rule = Innocent()
        return rule

    async def _settle(self, app: SmallApp, rule: KillAt | None) -> None:
        """Wait until the application is done and nothing more is sent, or the engine is killed."""
        end = time.monotonic() + 60
        since = 0.0
        while rule is None or rule.fired is None:
            if await app.done(self.api):
                since = since or time.monotonic()
                latest = max(
                    (call.time for call in self.proxy.calls[-20:] if call.method != "GET"), default=0
                )
                if time.monotonic() - max(since, latest) > QUIET:
                    return
            else:
                since = 0.0
            if time.monotonic() > end:
                await app.wait(self.api, 0)
            await asyncio.sleep(0.05)

    def deletions(self, app: SmallApp, mark: int) -> set[str]:
        """Give the names of what the engine deleted in the namespace."""
        lines = self.cluster.audit(self.engine.user, mark)
        return {
            line.name
            for line in lines
            if line.verb.startswith("delete") and line.namespace == app.namespace and line.code < 300
        }


async def undisturbed(killing: Killing, app: SmallApp) -> dict[Operation, End]:
    """Do all operations without a kill and give their ends."""
    ends: dict[Operation, End] = {}
    for operation in OPERATIONS:
        rule = await killing.operate(app, operation, 0, "before")
        ends[operation] = await app.end(killing.api)
        print(f"{operation}: {len(rule.counted)} calls")  # noqa: T201 - shown with -rP
        assert rule.counted
    assert set(ends["install"].objects) == {"ConfigMap/one", "ConfigMap/two", "Service/door"}
    assert set(ends["prune"].objects) == {"ConfigMap/one", "ConfigMap/three"}
    return ends


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_engine_killed_at_any_call_ends_as_undisturbed(
    own_cluster: RealCluster,
    api: Api,
    proxied: ProxiedFactory,
    small_app: Callable[[str], SmallApp],
    moment: Moment,
) -> None:
    """Killed at its n-th call, for every n, the engine ends with the same objects, inventory, conditions."""
    engine, proxy = proxied(FAST)
    engine.start()
    killing = Killing(own_cluster, engine, proxy, api)
    made = f"k-{moment}-{os.urandom(2).hex()}"
    spaces = [f"{made}-calm"]
    await make_namespace(api, spaces[0])
    wanted = await undisturbed(killing, small_app(spaces[0]))
    fired = dict.fromkeys(OPERATIONS, 0)
    number = 0
    while True:
        number += 1
        spaces.append(f"{made}-{number}")
        await make_namespace(api, spaces[-1])
        app = small_app(spaces[-1])
        hit = False
        for operation in OPERATIONS:
            before, mark = await app.uids(api), own_cluster.mark()
            rule = await killing.operate(app, operation, number, moment)
            where = f"{operation}, {moment} call {number}: {rule.fired}"
            hit = hit or rule.fired is not None
            fired[operation] += rule.fired is not None
            assert await app.end(api) == wanted[operation], where
            assert killing.deletions(app, mark) <= DELETED[operation], where
            after = await app.uids(api)
            kept = before.keys() & after.keys()
            assert {key: before[key] for key in kept} == {key: after[key] for key in kept}, where
        await app.end_of_life(api)
        if not hit:
            break
    print(f"kills {moment}: {fired}")  # noqa: T201 - shown with -rP
    assert all(count >= 5 for count in fired.values()), fired
    for space in spaces:
        await scrub(api, space, patience=10)
    engine.restart()
    assert abandoned() == []


def abandoned() -> list[Path]:
    """Give the private folders in memory whose processes are gone: a start removes what kills left."""
    found = []
    for path in Path("/dev/shm").glob("gitwright-*"):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found.append(path)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)
    return found
