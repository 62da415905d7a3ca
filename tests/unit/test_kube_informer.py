"""Informers against a small real API server that breaks in every way they must bear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gitwright.core.objects import JSON
from gitwright.kube.client import Client
from gitwright.kube.cluster import Cluster
from gitwright.kube.config import ConnectionConfig
from gitwright.kube.informer import Change, Informer
from tests.unit.kube_server import WIDGET, WIDGETS, TinyApi, client_of, serving, status


async def soon(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if check():
                return
            await asyncio.sleep(0.005)


def rev(obj: JSON) -> str:
    if obj["rev"] == "poison":
        raise ValueError("cannot be projected")
    return str(obj["rev"])


class Seen:
    def __init__(self, informer: Informer[str]) -> None:
        self.informer = informer
        self.told: list[tuple[str, str, str | None, str | None]] = []
        informer.subscribe(self.note)

    def note(self, change: Change[str]) -> None:
        self.told.append((change.kind, change.name, change.old, change.new))


@asynccontextmanager
async def watching(
    api: TinyApi, *, synced: bool = True, **settings: Any
) -> AsyncIterator[tuple[Informer[str], Seen]]:
    """Run an informer on the server; its pauses are a hundredth of what they are in earnest."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 100)

    async with serving(api) as url, client_of(url) as client:
        informer = Informer(client, WIDGET, project=rev, sleep=sleep, **settings)
        seen = Seen(informer)
        task = asyncio.create_task(informer.run())
        try:
            if synced:
                await informer.synced(10)
            yield informer, seen
        finally:
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_handlers_see_all_objects_and_then_each_change() -> None:
    """A list of several pages is told as added, later events as they come, with old and new."""
    api = TinyApi()
    for number in range(5):
        api.put(f"w{number}", "1")
    async with watching(api, page=2) as (informer, seen):
        assert seen.told == [("added", f"w{number}", None, "1") for number in range(5)]
        seen.told.clear()
        api.put("w0", "2")
        api.put("new", "1", namespace="other")
        api.remove("w1")
        await soon(lambda: len(seen.told) == 3)
        assert seen.told == [
            ("modified", "w0", "1", "2"),
            ("added", "new", None, "1"),
            ("deleted", "w1", "1", None),
        ]
        assert informer.get("ns", "w0") == "2"
        assert informer.get("ns", "w1") is None
        assert informer.items("other") == ["1"]
        assert len(informer.items()) == 5


async def test_a_broken_watch_resumes_where_it_was() -> None:
    """After a cut connection the watch goes on from the last version, without a list and without repeats."""
    api = TinyApi()
    api.put("a", "1")
    async with watching(api) as (_, seen):
        api.put("a", "2")
        await soon(lambda: len(seen.told) == 2)
        at = str(api.version)
        api.cut()
        api.put("a", "3")
        await soon(lambda: len(seen.told) == 3)
        assert api.lists == 1
        assert api.watches[1] == at
        assert [kind for kind, *_ in seen.told] == ["added", "modified", "modified"]


async def test_a_bookmark_moves_the_place_to_resume_from() -> None:
    """A watch resumes from the last bookmark when nothing else came."""
    api = TinyApi()
    async with watching(api) as (_, seen):
        await soon(lambda: len(api.watches) == 1)
        api.bookmark()
        at = str(api.version)
        # The bookmark has been read when what follows it was.
        api.put("a", "1")
        await soon(lambda: len(seen.told) == 1)
        api.bookmark()
        await asyncio.sleep(0.05)
        api.cut()
        await soon(lambda: len(api.watches) == 2)
        assert int(api.watches[1]) > int(at)
        assert api.watches[1] == str(api.version)


async def test_an_expired_version_is_listed_anew_and_the_difference_told() -> None:
    """After a 410 handlers hear of what was added, changed, removed and recreated, and of nothing else."""
    api = TinyApi()
    for name in ("kept", "changed", "removed", "again"):
        api.put(name, "1")
    async with watching(api) as (_, seen):
        await soon(lambda: len(api.watches) == 1)
        seen.told.clear()
        api.history.clear()
        wake, api._wake = api._wake, asyncio.Event()
        api.put("changed", "2")
        api.remove("removed")
        api.remove("again")
        api.put("again", "1", uid="another")
        api.put("new", "1")
        api.compact()
        api.history.clear()
        api._wake = wake
        api.cut()
        await soon(lambda: len(seen.told) == 5)
        await soon(lambda: len(api.watches) == 3)
        assert sorted(seen.told, key=str) == sorted(
            [
                ("modified", "changed", "1", "2"),
                ("deleted", "removed", "1", None),
                ("deleted", "again", "1", None),
                ("added", "again", None, "1"),
                ("added", "new", None, "1"),
            ],
            key=str,
        )
        assert api.lists == 2


async def test_a_poisoned_object_stops_nothing() -> None:
    """An object that cannot be projected is left out, keeps what was known of it, and others go on (S13)."""
    api = TinyApi()
    api.put("bad", "poison")
    api.put("good", "1")
    async with watching(api) as (informer, seen):
        assert seen.told == [("added", "good", None, "1")]
        api.put("good", "poison")
        api.put("good2", "1")
        await soon(lambda: informer.get("ns", "good2") == "1")
        assert informer.get("ns", "good") == "1"
        api.put("bad", "2")
        await soon(lambda: informer.get("ns", "bad") == "2")


async def test_a_failing_handler_stops_no_other() -> None:
    """Each handler gets every change even if another one raises, and none after it unsubscribed."""
    api = TinyApi()
    async with watching(api) as (informer, seen):

        def fail(change: Change[str]) -> None:
            raise RuntimeError("broken handler")

        informer.subscribe(fail)
        late = Seen(informer)
        stop = informer.subscribe(lambda change: late.told.append(("x", change.name, None, None)))
        stop()
        api.put("a", "1")
        await soon(lambda: len(late.told) == 1)
        assert seen.told == late.told == [("added", "a", None, "1")]


async def test_a_kind_that_is_not_served_has_no_objects_until_it_is() -> None:
    """A missing kind counts as synced and empty; a kind that goes takes its objects; it is found again."""
    api = TinyApi()
    api.served = False
    async with watching(api) as (informer, seen):
        assert informer.has_synced
        assert "no matches for kind" in informer.last_error
        api.served = True
        api.put("a", "1")
        await soon(lambda: seen.told == [("added", "a", None, "1")])
        assert informer.last_error == ""
        api.served = False
        api.cut()
        await soon(lambda: seen.told[1:] == [("deleted", "a", "1", None)])
        assert informer.items() == []


async def test_a_forbidden_list_is_told_at_once_and_tried_again() -> None:
    """Waiting for a list that is forbidden ends at once with the server's words; rights given later count."""
    api = TinyApi()
    api.put("a", "1")
    words = 'widgets.x.example.com is forbidden: User "u" cannot list'

    def refuse(request: web.BaseRequest) -> web.Response | None:
        return status(403, "Forbidden", words) if request.path == WIDGETS else None

    api.refuse = refuse
    async with watching(api, synced=False) as (informer, _):
        with pytest.raises(TimeoutError, match="cannot list"):
            await informer.synced(10)
        assert informer.last_error == words
        assert not informer.has_synced
        api.refuse = lambda request: None
        await soon(lambda: informer.has_synced)
        assert informer.last_error == ""
        await informer.synced(1)


async def test_failures_are_met_with_growing_pauses() -> None:
    """A server that always fails is asked at growing intervals, up to half a minute."""
    api = TinyApi()
    api.refuse = lambda request: status(500, "InternalError", "etcd") if request.path == WIDGETS else None
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    async with serving(api) as url, client_of(url) as client:
        informer = Informer(client, WIDGET, project=rev, sleep=sleep, chance=lambda: 1.0)
        task = asyncio.create_task(informer.run())
        await soon(lambda: len(pauses) >= 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert max(pauses) == 30.0


async def test_an_index_follows_its_objects() -> None:
    """An index made before or after the objects finds them by value, and follows changes and deletions."""
    api = TinyApi()
    api.put("a", "x")
    async with watching(api) as (informer, _):
        informer.index("by", lambda value: [value, value])
        assert informer.by_index("by", "x") == ["x"]
        api.put("b", "x")
        api.put("a", "y")
        await soon(lambda: informer.by_index("by", "y") == ["y"])
        assert informer.by_index("by", "x") == ["x"]
        api.remove("b")
        await soon(lambda: informer.by_index("by", "x") == [])
        with pytest.raises(KeyError):
            informer.by_index("none", "x")


async def test_a_long_list_leaves_the_loop_to_others() -> None:
    """While thousands of events are handled, other tasks get their turns."""
    api = TinyApi()
    for number in range(2000):
        api.put(f"w{number}", "1")
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with watching(api, synced=False) as (informer, _):
        ticking = asyncio.create_task(tick())
        await informer.synced(20)
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
    assert turns > 40


async def test_a_cluster_shares_informers_and_ends_what_it_started() -> None:
    """One selection is one informer, ended by its last user or the cluster; a closed cluster gives none."""
    api = TinyApi()
    api.put("a", "1")
    async with serving(api) as url:
        cluster = Cluster("", await Client.open(ConnectionConfig(url)))
        first = await cluster.informer(WIDGET, rev, view="t")
        assert await cluster.informer(WIDGET, rev, view="t") is first
        other = await cluster.informer(WIDGET, rev, labels="a=b", view="t")
        assert other is not first
        await asyncio.gather(first.synced(10), other.synced(10))
        await cluster.release(first)
        assert running() == 2
        await cluster.release(first)
        assert running() == 1
        await cluster.close()
        assert running() == 0
        with pytest.raises(RuntimeError):
            await cluster.informer(WIDGET, rev)


def running() -> int:
    return sum(task.get_name() == "informer Widget" for task in asyncio.all_tasks())
