"""Small real HTTP servers on loopback for the tests of `gitwright.kube`.

Role: `answering` serves what a test scripts; `TinyApi` is just enough of a Kubernetes
API server (discovery, list with pages, watch) to break in every way an informer must bear.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gitwright.core.objects import GVK
from gitwright.kube.client import Client
from gitwright.kube.config import ConnectionConfig
from gitwright.kube.http import Tools

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
WIDGET = GVK("x.example.com", "v1", "Widget")
WIDGETS = "/apis/x.example.com/v1/widgets"


def status(code: int, reason: str, message: str, **more: Any) -> web.Response:
    """Answer with a Status object."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return web.json_response({**body, "message": message, **more}, status=code)


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve on a free loopback port and give the URL."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@dataclass
class Clock:
    """Time that passes only when somebody sleeps."""

    seconds: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)

    def tools(self) -> Tools:
        return Tools(sleep=self.sleep, monotonic=self.monotonic, chance=lambda: 0.0)


@dataclass
class Script:
    """Answers in turn, the last for ever, and the requests that came."""

    answers: list[Handler | web.Response | int]
    requests: list[web.BaseRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, int):
            return web.json_response({}, status=answer)
        if isinstance(answer, web.Response):
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        return await answer(request)


async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Cut the connection after the request was read, without an answer."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    return web.Response()


@asynccontextmanager
async def client_of(url: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Client]:
    """Open a client of a server; with a clock, its waits take no time."""
    tools = clock.tools() if clock else None
    async with await Client.open(ConnectionConfig(server=url, **settings), tools=tools) as client:
        yield client


class TinyApi:
    """One kind, Widget, with lists and watches that a test may break."""

    def __init__(self) -> None:
        self.served = True
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.history: list[tuple[int, str, dict[str, Any]]] = []
        self.oldest = 0
        self.version = 10
        self.lists = 0
        self.watches: list[str] = []
        self.refuse: Callable[[web.BaseRequest], web.Response | None] = lambda request: None
        self._wake = asyncio.Event()
        self._cut = 0

    def put(self, name: str, rev: str, namespace: str = "ns", uid: str = "") -> None:
        """Create or change an object."""
        self.version += 1
        key = (namespace, name)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(self.version),
        }
        self._record(kind, {"metadata": metadata, "rev": rev})
        self.objects[key] = self.history[-1][2]

    def remove(self, name: str, namespace: str = "ns") -> None:
        """Delete an object."""
        self.version += 1
        gone = self.objects.pop((namespace, name))
        metadata = {**gone["metadata"], "resourceVersion": str(self.version)}
        self._record("DELETED", {**gone, "metadata": metadata})

    def bookmark(self) -> None:
        """Send a bookmark."""
        self.version += 1
        self._record("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def compact(self) -> None:
        """Forget the past."""
        self.version += 1
        self.oldest = self.version

    def cut(self) -> None:
        """Break the connections of all watches."""
        self._cut += 1
        self._wake.set()

    def _record(self, kind: str, obj: dict[str, Any]) -> None:
        self.history.append((self.version, kind, obj))
        self._wake.set()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        refused = self.refuse(request)
        if refused is not None:
            return refused
        if request.path in ("/api", "/apis"):
            return web.json_response({"kind": "APIGroupList", "groups": []})
        if not self.served:
            return web.Response(text="404 page not found\n", status=404)
        if request.path == "/apis/x.example.com/v1":
            item = {"name": "widgets", "kind": "Widget", "namespaced": True, "verbs": ["list", "watch"]}
            return web.json_response({"kind": "APIResourceList", "resources": [item]})
        assert request.path == WIDGETS
        return await (self._watch(request) if request.query.get("watch") else self._list(request))

    async def _list(self, request: web.BaseRequest) -> web.StreamResponse:
        start, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        self.lists += start == 0
        found = list(self.objects.values())
        token = str(start + limit) if start + limit < len(found) else ""
        metadata = {"resourceVersion": str(self.version), "continue": token}
        return web.json_response(
            {"kind": "WidgetList", "metadata": metadata, "items": found[start : start + limit]}
        )

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        at = int(request.query["resourceVersion"])
        self.watches.append(request.query["resourceVersion"])
        if at < self.oldest:
            return status(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        cut = self._cut
        while True:
            if cut != self._cut:
                assert request.transport is not None
                request.transport.abort()
                return response
            for version, kind, obj in list(self.history):
                if version > at:
                    at = version
                    await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")
            if not self.served:
                return response
            self._wake.clear()
            await self._wake.wait()
