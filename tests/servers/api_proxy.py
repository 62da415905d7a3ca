"""A reverse proxy before a Kubernetes API server that sees each request, and may spoil it.

Role: faults and kills at an exact call. It ends TLS on loopback with a certificate of its
own and forwards everything, watches piece by piece. What happens to a request is decided
by a rule of the test. Knows nothing of gitwright.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from tests.servers.certificates import CertificateAuthority

T = TypeVar("T")
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade", "te"})
_START = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Args:
        time: monotonic seconds when it came.
        method: the HTTP method.
        path: quoted, without the query.
        query: its parameters.
    """

    time: float
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored."""
        return self.query.get("dryRun") == "All"

    @property
    def writes(self) -> bool:
        """Whether something is to be stored."""
        return self.method != "GET" and not self.dry_run

    @property
    def watches(self) -> bool:
        """Whether it is a watch."""
        return "watch" in self.query

    @property
    def of_lease(self) -> bool:
        """Whether it is about leader election."""
        return "/leases/" in self.path or self.path.endswith("/leases")

    def __str__(self) -> str:
        return f"{self.method} {self.path}{' (dry run)' if self.dry_run else ''}"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer instead of the server, with a Status object.

    Args:
        code: HTTP status.
        reason: of the Status object.
        retry_after: seconds for the Retry-After header; None leaves it out.
    """

    code: int
    reason: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Break the connection.

    Args:
        forwarded: after the server has done what was asked, and instead of its answer.
    """

    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Delay:
    """Forward after a while.

    Args:
        seconds: how long.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class CutLater:
    """Forward a watch and break it after a while.

    Args:
        seconds: how long.
    """

    seconds: float


Fault = Refuse | Cut | Delay | CutLater


class Rule(Protocol):
    """Decides what happens to requests; called in the proxy's own thread."""

    def before(self, call: Call) -> Fault | None:
        """Called before a request is forwarded; None forwards it."""

    def after(self, call: Call) -> Fault | None:
        """Called when the server has answered, before the answer is handed on; None hands it on."""


class Innocent:
    """The rule that spoils nothing."""

    def before(self, _call: Call) -> Fault | None:
        """Forward."""
        return None

    def after(self, _call: Call) -> Fault | None:
        """Hand on."""
        return None


class ApiProxy:
    """The proxy; a context manager that listens in a thread of its own.

    Attributes:
        rule: what happens to requests; may be changed while it runs.
        calls: all requests so far but leases, oldest first.

    Args:
        server: URL of the API server.
        ca: file of the authority that signed its certificate.
        folder: for the proxy's own authority.
    """

    def __init__(self, server: str, ca: Path, folder: Path) -> None:
        self.rule: Rule = Innocent()
        self.calls: list[Call] = []
        self._server = server
        self._upstream_tls = ssl.create_default_context(cafile=str(ca))
        self._authority = CertificateAuthority.make(folder, "proxy")
        self._tls = self._authority.server_tls("127.0.0.1").context()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api proxy", daemon=True)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._watching: dict[int, web.Request] = {}
        self.port = 0

    def __enter__(self) -> ApiProxy:
        self._thread.start()
        self._wait(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut_watches(self) -> None:
        """Break every watch that is under way."""

        async def cut() -> None:
            for request in list(self._watching.values()):
                _cut(request)

        self._wait(cut())

    def kubeconfig(self, path: Path, token: str) -> Path:
        """Write a kubeconfig that leads here and give its path."""
        authority = base64.b64encode(self._authority.pem).decode()
        server = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START)

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._upstream_tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        # What is still on its way ends with the connections.
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(time.monotonic(), request.method, request.rel_url.raw_path, dict(request.query))
        if not call.of_lease:
            self.calls.append(call)
        body = await request.read()
        fault = self.rule.before(call)
        limit: float | None = None
        match fault:
            case Refuse():
                return _refusal(fault)
            case Cut(forwarded=False):
                return _cut(request)
            case Delay():
                await asyncio.sleep(fault.seconds)
            case CutLater():
                limit = fault.seconds
        try:
            return await self._forward(request, call, body, limit, cut=isinstance(fault, Cut))
        except (aiohttp.ClientError, OSError):
            # The server is away: so is the proxy.
            return _cut(request)

    async def _forward(
        self, request: web.Request, call: Call, body: bytes, limit: float | None, *, cut: bool
    ) -> web.StreamResponse:
        if self._session is None:
            raise RuntimeError("use `with ApiProxy(...)`")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = self._server + request.raw_path
        async with self._session.request(
            request.method,
            URL(url, encoded=True),
            headers=headers,
            data=body or None,
            allow_redirects=False,
        ) as answer:
            if call.watches and answer.status < 300:
                self._watching[id(request)] = request
                try:
                    return await _pour(request, answer, limit)
                finally:
                    del self._watching[id(request)]
            content = await answer.read()
            if cut or isinstance(self.rule.after(call), Cut):
                return _cut(request)
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            return web.Response(status=answer.status, body=content, headers=kept)


async def _pour(
    request: web.Request, answer: aiohttp.ClientResponse, limit: float | None
) -> web.StreamResponse:
    """Hand a watch on, piece by piece, until either end closes it."""
    kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
    response = web.StreamResponse(status=answer.status, headers=kept)
    response.enable_chunked_encoding()
    await response.prepare(request)
    # The server may say nothing for a long while, so the head must go out before the first piece.
    with contextlib.suppress(TimeoutError, ConnectionError, aiohttp.ClientError):
        async with asyncio.timeout(limit):
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response
    return _cut(request, response)


def _cut(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Break the connection without another byte."""
    transport = request.transport
    if transport is not None:
        transport.abort()
    return response or web.Response(status=500)


def _refusal(fault: Refuse) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"the proxy of this test was told to answer {fault.code}",
        "reason": fault.reason,
        "code": fault.code,
    }
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return web.Response(
        status=fault.code, text=json.dumps(status), content_type="application/json", headers=headers
    )


def namespace_of(call: Call) -> str:
    """Give the namespace that a request is about, or nothing."""
    parts = urllib.parse.unquote(call.path).split("/")
    return parts[parts.index("namespaces") + 1] if "namespaces" in parts[:-1] else ""
