"""The engine's own HTTP endpoints: health, readiness, metrics, files; and the watch over the loop.

Role in the flow: kubelet asks for health and readiness, Prometheus for metrics, other
consumers of artifacts for files. It must not know what a check checks or which file a
path stands for. Source: spec/security.md S5, S34; spec/flux-v2.md section 8.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

from aiohttp import web

from gitwright.observe import logging
from gitwright.observe.metrics import CONTENT_TYPE, Metrics
from gitwright.runtime.checks import Check, alive

Resolve = Callable[[str], Path | None]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LATE = 0.020


class Server:
    """One listening address and what it answers; only GET and HEAD.

    `/healthz` and `/readyz` answer everybody; metrics may ask for a token; files are
    found by paths that cannot be guessed (the resolver's matter). Nothing is ever listed.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        health: answers `/healthz`.
        ready: answers `/readyz`: whether ready, and a text for people; None leaves it out.
        metrics: shown at `/metrics`; None leaves it out.
        token: the bearer token that `/metrics` asks for; empty asks for none.
        files: gives the file of a path without its leading slash, or None; called on the
            event loop, so it must be quick.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        health: Check = alive,
        ready: Check | None = None,
        metrics: Metrics | None = None,
        token: str = "",
        files: Resolve | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._token = token.encode()
        self._files = files
        application = web.Application(client_max_size=0)
        application.on_response_prepare.append(_hide_server)
        routes = application.router
        routes.add_get("/healthz", _answer(health))
        if ready is not None:
            routes.add_get("/readyz", _answer(ready))
        if metrics is not None:
            routes.add_get("/metrics", self._show_metrics)
        if files is not None:
            routes.add_get("/{path:.*}", self._send_file)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=2.0)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port it listens on, also when a free one was asked for."""
        return self._port

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the address cannot be had.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and end open requests."""
        await self._runner.cleanup()

    async def _show_metrics(self, request: web.Request) -> web.StreamResponse:
        if self._metrics is None:
            raise web.HTTPNotFound
        if self._token and not self._authorized(request):
            return web.Response(
                status=401, text="a bearer token is required\n", headers={"WWW-Authenticate": "Bearer"}
            )
        body = await asyncio.to_thread(self._metrics.expose)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    def _authorized(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, self._token)

    async def _send_file(self, request: web.Request) -> web.StreamResponse:
        found = self._files(request.match_info["path"]) if self._files is not None else None
        if found is None or not await asyncio.to_thread(found.is_file):
            return web.Response(status=404, text="404 page not found\n")
        return web.FileResponse(found, headers={"X-Content-Type-Options": "nosniff"})


async def watch_loop(
    metrics: Metrics, log: logging.Log, *, interval: float = 1.0, limit: float = _LATE
) -> None:
    """Measure how late the event loop is, until cancelled.

    Args:
        metrics: where the lag and the number of stalls are shown.
        log: warns of a lag over the limit.
        interval: seconds between samples.
        limit: seconds of lag that are too many.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        lag = max(0.0, loop.time() - due)
        metrics.lag.set(lag)
        if lag > limit:
            metrics.stalls.inc()
            log.warning("event loop was late", milliseconds=round(lag * 1000, 1))


def _answer(check: Check) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        good, text = check()
        return web.Response(status=200 if good else 503, text=text.rstrip("\n") + "\n")

    return handle


async def _hide_server(_: web.Request, response: web.StreamResponse) -> None:
    # The name and version of the HTTP library are nobody's business.
    response.headers["Server"] = "gitwright"
