"""One HTTP connection pool to one API server, with retries and authentication.

Role in the flow: `client` builds requests, this sends them. It must not know kinds,
objects or selectors. Source: spec/dependencies.md section 5; the retry rules of
k8s.io/client-go rest (with_retry.go).

A request is sent again only when that cannot do a thing twice: after 429, when no
connection could be made, and after a lost answer or a 5xx only if it is idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from gitwright.kube import impersonation
from gitwright.kube.config import ConfigError, ConnectionConfig
from gitwright.kube.credentials import Credential, credentials_for
from gitwright.kube.errors import ApiError, Unreachable, from_code, from_status
from gitwright.kube.impersonation import Headers

Observe = Callable[[str, str, int, float], None]

# Seconds: a server ends requests after 60; connecting over a continent takes under one.
_TOTAL = 75.0
_CONNECT = 10.0
# Waiting for a busy server: per answer, and in all. Source: client-go retries ten times.
_LONGEST_WAIT = 10.0
_WAIT_BUDGET = 30.0
_TRIES_BUSY = 10
# No connection, a lost answer, a gateway's 5xx: short, since callers come back later anyway.
_TRIES_BROKEN = 5
_FIRST_PAUSE = 0.1
_GATEWAY = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Args:
        method: the HTTP method.
        path: quoted path, from the slash on.
        params: query parameters; empty values are left out.
        body: the body, or None.
        content_type: of the body.
        accept: what to answer with.
        headers: further headers, such as impersonation.
        idempotent: doing it twice is as doing it once.
        resource: plural and group, for errors and metrics.
        name: the object's name, for errors.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    accept: str = "application/json"
    headers: Headers = ()
    idempotent: bool = True
    resource: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Tools:
    """Time, chance and counting, as arguments.

    Args:
        sleep: waits seconds.
        monotonic: seconds of a clock that never goes back.
        now: the time in UTC.
        chance: a number from 0 up to 1.
        observe: told of every answer: method, resource, code (0 for none), seconds.
    """

    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    chance: Callable[[], float] = random.random
    observe: Observe | None = None


class Transport:
    """The connections to one server. Make it with `open`, end it with `close`.

    Args:
        config: the connection.
        user_agent: of every request.
        limit: requests at the same time; watches are not counted.
        tools: time and chance.
    """

    def __init__(self, config: ConnectionConfig, user_agent: str, limit: int, tools: Tools) -> None:
        self.tools = tools
        self._config = config
        self._credentials = credentials_for(config, monotonic=tools.monotonic, now=tools.now)
        self._tls: tuple[Credential, ssl.SSLContext] | None = None
        self._tls_lock = asyncio.Lock()
        who = config.impersonate
        self.own_headers: Headers = (
            impersonation.headers(who.user, who.groups, uid=who.uid, extra=who.extra) if who else ()
        )
        self._requests = _session(user_agent, limit)
        # Each watch keeps a connection; within the pool they would starve the requests.
        self._watches = _session(user_agent, 0)

    async def close(self) -> None:
        """Close all connections and wait until they are."""
        await self._requests.close()
        await self._watches.close()

    async def send(self, request: Request) -> bytes:
        """Send a request and give the body of the answer.

        Raises:
            ApiError: the server refused, or could not be reached.
            CredentialError: there is no credential to use.
        """
        pauses = _Pauses(self.tools)
        renewed = False
        while True:
            credential = await self._credentials.current()
            try:
                status, headers, body = await self._once(request, credential)
            except Unreachable as error:
                if not (error.unsent or request.idempotent) or not await pauses.broken():
                    raise
                continue
            if status < 300:
                return body
            if status == 401 and not renewed and await self._credentials.refused(credential):
                renewed = True
                continue
            refusal = _refusal(request, status, headers, body)
            if not await self._again(request, refusal, pauses):
                raise refusal

    async def _again(self, request: Request, error: ApiError, pauses: _Pauses) -> bool:
        if error.status == 429 or (
            request.idempotent and error.status >= 500 and error.retry_after is not None
        ):
            return await pauses.busy(error.retry_after)
        return request.idempotent and error.status in _GATEWAY and await pauses.broken()

    async def _once(self, request: Request, credential: Credential) -> tuple[int, CIMultiDict[str], bytes]:
        tls = await self._context(credential)
        began = self.tools.monotonic()
        code = 0
        try:
            async with self._requests.request(
                request.method,
                self._url(request),
                data=request.body,
                headers=self._headers(request, credential),
                ssl=tls,
                proxy=self._config.proxy_url or None,
                server_hostname=self._server_name(),
                allow_redirects=False,
            ) as response:
                body = await response.read()
                code = response.status
                return code, CIMultiDict(response.headers), body
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(request, self._config, error) from error
        finally:
            self._count(request, code, began)

    async def stream(self, request: Request, seconds: float) -> AsyncGenerator[bytes, None]:
        """Send a request and give its answer piece by piece, as it comes.

        Args:
            request: a watch.
            seconds: longest time without any byte.

        Raises:
            ApiError: the server refused, could not be reached, or the connection broke.
        """
        renewed = False
        while True:
            credential = await self._credentials.current()
            tls = await self._context(credential)
            began = self.tools.monotonic()
            code = 0
            try:
                async with self._watches.request(
                    request.method,
                    self._url(request),
                    headers=self._headers(request, credential),
                    ssl=tls,
                    proxy=self._config.proxy_url or None,
                    server_hostname=self._server_name(),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=seconds),
                ) as response:
                    code = response.status
                    self._count(request, code, began)
                    if code < 300:
                        async for piece in response.content.iter_any():
                            yield piece
                        return
                    body = await response.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if not code:
                    self._count(request, 0, began)
                raise _unreachable(request, self._config, error) from error
            if code == 401 and not renewed and await self._credentials.refused(credential):
                renewed = True
                continue
            raise _refusal(request, code, CIMultiDict(response.headers), body)

    def _url(self, request: Request) -> URL:
        query = urlencode([(name, value) for name, value in request.params if value])
        return URL(f"{self._config.server}{request.path}{'?' if query else ''}{query}", encoded=True)

    def _headers(self, request: Request, credential: Credential) -> CIMultiDict[str]:
        headers = CIMultiDict(request.headers)
        headers["Accept"] = request.accept
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if credential.authorization:
            headers["Authorization"] = credential.authorization
        return headers

    def _server_name(self) -> str | None:
        return self._config.tls_server_name or None

    def _count(self, request: Request, code: int, began: float) -> None:
        if self.tools.observe is not None:
            self.tools.observe(request.method, request.resource, code, self.tools.monotonic() - began)

    async def _context(self, credential: Credential) -> ssl.SSLContext | bool:
        if not self._config.server.startswith("https:"):
            return True
        if self._tls is None or self._tls[0].certificate != credential.certificate:
            async with self._tls_lock:
                if self._tls is None or self._tls[0].certificate != credential.certificate:
                    context = await asyncio.to_thread(tls_context, self._config, credential)
                    self._tls = (credential, context)
        return self._tls[1]


class _Pauses:
    """The waits between the tries of one request."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._busy = 0
        self._broken = 0
        self._waited = 0.0

    async def busy(self, asked: float | None) -> bool:
        """Wait as long as a busy server asks; tells False when there was enough waiting."""
        self._busy += 1
        pause = min(max(1.0 if asked is None else asked, 0.05), _LONGEST_WAIT)
        if self._busy >= _TRIES_BUSY or self._waited + pause > _WAIT_BUDGET:
            return False
        self._waited += pause
        # A little more for each, so that all who were turned away do not return at once.
        await self._tools.sleep(pause * (1 + 0.2 * self._tools.chance()))
        return True

    async def broken(self) -> bool:
        """Wait longer each time; tells False when there were enough tries."""
        self._broken += 1
        if self._broken >= _TRIES_BROKEN:
            return False
        pause = _FIRST_PAUSE * 2.5 ** (self._broken - 1)
        await self._tools.sleep(pause * (0.5 + self._tools.chance()))
        return True


def _session(user_agent: str, limit: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=75.0, socket_factory=_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=_TOTAL, sock_connect=_CONNECT),
        # Compressing costs the server more than these sizes are worth within a data centre.
        headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
        trust_env=False,
    )


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket whose dead peer is noticed within a minute, also while a watch is silent."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def tls_context(config: ConnectionConfig, credential: Credential) -> ssl.SSLContext:
    """Make the TLS settings of a connection; takes milliseconds, so call it in a thread.

    Args:
        config: whom to trust.
        credential: the client certificate, if any.

    Raises:
        ConfigError: a certificate or key cannot be read.
    """
    try:
        context = ssl.create_default_context(cadata=config.ca.decode("ascii") if config.ca else None)
        if config.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        # Authorities made by kubeadm and others lack extensions that strict checking asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except (ssl.SSLError, ValueError):
        raise ConfigError("the certificate authority of the cluster is not a PEM certificate") from None
    if credential.certificate:
        _load_pair(context, credential)
    return context


def _load_pair(context: ssl.SSLContext, credential: Credential) -> None:
    """Load a client certificate; the ssl module reads files only, so they exist for a moment."""
    folder = Path(tempfile.mkdtemp(prefix="gitwright-"))
    try:
        names = []
        for name, content in (("certificate", credential.certificate), ("key", credential.key)):
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            names.append(folder / name)
        # A key with a passphrase is refused; asking at the terminal would hang.
        context.load_cert_chain(names[0], names[1], password="")
    except (ssl.SSLError, ValueError):
        raise ConfigError("the client certificate and its key do not fit or are not PEM") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refusal(request: Request, status: int, headers: CIMultiDict[str], body: bytes) -> ApiError:
    retry_after: float | None = None
    # A date is allowed too; API servers send seconds.
    with contextlib.suppress(ValueError):
        retry_after = max(0.0, float(headers["Retry-After"])) if "Retry-After" in headers else None
    if "json" in headers.get("Content-Type", ""):
        with contextlib.suppress(orjson.JSONDecodeError):
            answer = orjson.loads(body)
            if isinstance(answer, dict) and answer.get("kind") == "Status":
                return from_status(answer, status, retry_after)
    return from_code(status, request.method, request.resource, request.name, retry_after)


def _unreachable(request: Request, config: ConnectionConfig, error: BaseException) -> Unreachable:
    """Word a failure to get an answer, as Go's HTTP client does."""
    parts = urlsplit(config.server)
    unsent = isinstance(
        error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
    )
    hint = ""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = f"tls: failed to verify certificate: {getattr(error.certificate_error, 'verify_message', '')}"
        hint = "check certificate-authority-data and tls-server-name of the kubeconfig"
    elif isinstance(error, aiohttp.ClientConnectorSSLError):
        cause = "tls: the handshake failed"
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        cause = f"the proxy answered {error.status}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = (error.strerror or str(error.os_error) or "connection failed").lower()
        if error.errno is not None and error.errno > 0:
            cause = os.strerror(error.errno).lower()
    elif isinstance(error, TimeoutError):
        cause = "timed out"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        cause = "EOF"
    else:
        cause = "the connection broke"
    host = parts.netloc.rpartition("@")[2]
    verb = request.method.capitalize()
    return Unreachable(f'{verb} "{parts.scheme}://{host}{request.path}": {cause}', hint=hint, unsent=unsent)
