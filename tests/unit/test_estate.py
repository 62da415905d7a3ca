"""What we manage: the newest state wins, whoever tells it, and nothing that differs is missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from gitwright.apply.estate import Estate, Seen
from gitwright.apply.live import OWNER_NAME, OWNER_NAMESPACE, Owner
from gitwright.apply.plan import Answer
from gitwright.apply.wait import Wait
from gitwright.core.objects import GVK, JSON, ObjectKey
from gitwright.kube.cluster import Cluster
from tests.unit.kube_server import WIDGET, WIDGETS, TinyApi, client_of, serving

OWNER = Owner("apps", "web")
KEY = ObjectKey("x.example.com", "Widget", "ns", "a")
OLD = GVK("x.example.com", "v1beta1", "Widget")


class Versions(TinyApi):
    """The same widgets in two versions; the older one shows no `more`."""

    def __init__(self) -> None:
        super().__init__()
        self.serves_old = True

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/apis/x.example.com/v1beta1" and self.serves_old:
            item = {"name": "widgets", "kind": "Widget", "namespaced": True, "verbs": ["list", "watch"]}
            return web.json_response({"kind": "APIResourceList", "resources": [item]})
        if "/v1beta1/" in request.path and self.serves_old:
            view = _Old(self)
            return await (view._watch(request) if request.query.get("watch") else view._list(request))
        if "v1beta1" in request.path:
            return web.Response(text="404 page not found\n", status=404)
        assert request.path in ("/api", "/apis", "/apis/x.example.com/v1", WIDGETS)
        return await super().__call__(request)

    def widget(self, rev: str, *, more: str = "m", written_as: str = "x.example.com/v1") -> JSON:
        """Create or change the widget; gives it as an answer to our apply would be."""
        self.put("a", rev)
        obj: JSON = self.objects[("ns", "a")]
        obj |= {"apiVersion": "x.example.com/v1", "kind": "Widget", "more": more}
        obj["metadata"] |= {
            "labels": {OWNER_NAME: OWNER.name, OWNER_NAMESPACE: OWNER.namespace},
            "managedFields": [
                {
                    "manager": "kustomize-controller",
                    "operation": "Apply",
                    "apiVersion": written_as,
                    "fieldsV1": {"f:rev": {}, "f:more": {}},
                }
            ],
        }
        return obj


class _Old(TinyApi):
    """The view of the older version over the same objects: it shares the whole state."""

    def __init__(self, whole: Versions) -> None:
        self.__dict__ = whole.__dict__

    @property
    def objects(self) -> dict[tuple[str, str], JSON]:  # type: ignore[override]
        hide = {"apiVersion": OLD.api_version}
        return {key: _without_more(obj) | hide for key, obj in self.__dict__["objects"].items()}

    @property
    def history(self) -> list[tuple[int, str, JSON]]:  # type: ignore[override]
        return [(version, kind, _without_more(obj)) for version, kind, obj in self.__dict__["history"]]


def _without_more(obj: JSON) -> JSON:
    return {name: value for name, value in obj.items() if name not in ("more", "apiVersion")}


@asynccontextmanager
async def managing(api: TinyApi) -> AsyncIterator[tuple[Estate, list[Seen]]]:
    async with serving(api) as url, client_of(url) as client:
        cluster = Cluster("test", client)
        estate = Estate(cluster)
        seen: list[Seen] = []
        estate.subscribe(seen.append)
        try:
            yield estate, seen
        finally:
            await cluster.close()


async def soon(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if check():
                return
            await asyncio.sleep(0.005)


def owned(estate: Estate) -> bytes:
    found = estate.find(KEY)
    assert found is not None
    return found.owned


async def test_an_answer_is_known_before_the_watch_and_an_older_event_does_not_undo_it() -> None:
    """The answer to an apply counts at once; what the watch shows from before it does not."""
    api = Versions()
    older = dict(api.widget("1"))
    async with managing(api) as (estate, _):
        newer = {**older, "rev": "2", "metadata": {**older["metadata"], "resourceVersion": "99"}}
        learned = estate.learn(newer)
        await estate.watch([WIDGET])
        assert estate.find(KEY) == learned


async def test_a_change_that_overtook_our_answer_is_told_as_drift() -> None:
    """Who edits between our apply and its answer is noticed although the watch told of it too early."""
    api = Versions()
    answer = dict(api.widget("ours"))
    async with managing(api) as (estate, seen):
        api.widget("theirs")
        await estate.watch([WIDGET])
        await soon(lambda: estate.find(KEY) is not None)
        seen.clear()
        estate.answered(OWNER, KEY, Answer("digest", estate.learn(answer).owned))
        assert b"theirs" in owned(estate)
        assert seen == [Seen(OWNER, KEY, True)]
        seen.clear()
        estate.answered(OWNER, KEY, Answer("digest", owned(estate)))
        assert seen == []


async def test_an_object_that_ended_is_not_brought_back_by_an_older_answer() -> None:
    """An answer that comes after the watch showed the object's end makes nothing known, and is told."""
    api = Versions()
    answer = dict(api.widget("ours"))
    async with managing(api) as (estate, seen):
        await estate.watch([WIDGET])
        await soon(lambda: estate.find(KEY) is not None)
        api.remove("a")
        await soon(lambda: estate.find(KEY) is None)
        seen.clear()
        estate.answered(OWNER, KEY, Answer("digest", estate.learn(answer).owned))
        assert estate.find(KEY) is None
        assert seen == [Seen(OWNER, KEY, True)]
        api.widget("again")
        await soon(lambda: estate.find(KEY) is not None)


async def test_only_the_version_of_our_apply_decides_what_is_drift() -> None:
    """A watch of another version shows fewer fields; that is neither drift nor the newest state."""
    api = Versions()
    api.widget("1")
    async with managing(api) as (estate, seen):
        await estate.watch([WIDGET, OLD])
        estate.answered(OWNER, KEY, Answer("digest", owned(estate)))
        seen.clear()
        for count in range(5):
            api.widget("1")
            version = api.version
            await soon(lambda version=version: (estate.find(KEY) or _nothing()).version == version)  # type: ignore[misc]
            await asyncio.sleep(0.02)
            assert b'"more"' in owned(estate), count
        assert not any(told.drifted for told in seen)
        api.widget("2")
        await soon(lambda: any(told.drifted for told in seen))


async def test_the_end_of_a_version_is_not_the_end_of_its_objects() -> None:
    """A version that is served no more takes nothing away while another version shows the objects."""
    api = Versions()
    api.widget("1")
    async with managing(api) as (estate, seen):
        await estate.watch([WIDGET, OLD])
        informer = await estate.cluster.informer(OLD, estate.project, labels=OWNER_NAME, view="estate")
        assert informer.items()
        seen.clear()
        api.serves_old = False
        api.cut()
        await soon(lambda: not informer.items())
        assert estate.find(KEY) is not None
        assert not any(told.drifted for told in seen)
        api.remove("a")
        await soon(lambda: estate.find(KEY) is None)


async def test_a_wait_looks_only_when_something_changed_and_repairs_only_drift() -> None:
    """Many changes of health cause no repair; drift causes one; what is put off is asked for again."""
    api = Versions()
    api.widget("1")
    api.objects[("ns", "a")]["status"] = _ready("False")
    async with managing(api) as (estate, _):
        await estate.watch([WIDGET])
        estate.answered(OWNER, KEY, Answer("digest", owned(estate)))
        calls: list[float] = []
        answers: Iterator[float | None] = iter([0.2, None, None, None, None])

        async def on_drift() -> float | None:
            calls.append(asyncio.get_running_loop().time())
            return next(answers)

        wait = Wait(estate, OWNER, [KEY])
        task = asyncio.create_task(
            wait.run(10.0, interrupted=lambda: None, newer=asyncio.Event(), on_drift=on_drift)
        )
        await soon(lambda: len(calls) == 2)
        assert calls[1] - calls[0] >= 0.19
        for _ in range(5):
            api.widget("1")["status"] = _ready("False")
            await asyncio.sleep(0.02)
        assert len(calls) == 2
        api.widget("drift")["status"] = _ready("False")
        await soon(lambda: len(calls) == 3)
        api.widget("drift")["status"] = _ready("True")
        verdict = await asyncio.wait_for(task, 5)
        assert verdict.healthy


async def test_a_wait_ends_in_time_and_names_what_was_not_there() -> None:
    """At the end of its time a wait gives Flux's text for each object that was not healthy."""
    api = Versions()
    async with managing(api) as (estate, _):
        await estate.watch([WIDGET])

        async def on_drift() -> float | None:
            return None

        wait = Wait(estate, OWNER, [KEY])
        verdict = await wait.run(0.05, interrupted=lambda: None, newer=asyncio.Event(), on_drift=on_drift)
        assert not verdict.healthy
        assert verdict.message == "timeout waiting for: [Widget/ns/a status: 'NotFound']"


def _ready(status: str) -> JSON:
    return {"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "m"}]}


def _nothing() -> Any:
    class Nothing:
        version = -1

    return Nothing
