"""Retries, authentication, TLS and proxies of the transport, against real servers on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from pathlib import Path

import pytest
from aiohttp import web

from gitwright.core.errors import Denied, Transient
from gitwright.core.objects import GVK
from gitwright.kube.client import Client
from gitwright.kube.config import ConfigError, ConnectionConfig, Impersonation
from gitwright.kube.credentials import Credential
from gitwright.kube.errors import ApiError, ServerError, TooMany, Unauthorized, Unreachable
from gitwright.kube.http import tls_context
from tests.servers.certificates import CertificateAuthority, KeyPair
from tests.unit.kube_server import Clock, Script, client_of, hang_up, serving, status


def busy(code: int, retry_after: str) -> web.Response:
    return web.Response(status=code, headers={"Retry-After": retry_after})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_too_many_requests_is_tried_again_when_the_server_says(method: str) -> None:
    """After 429 any request waits as long as Retry-After asks and is sent again."""
    script, clock = Script([busy(429, "2"), busy(429, "3"), web.json_response({"ok": 1})]), Clock()
    async with serving(script) as url, client_of(url, clock) as client:
        assert await client.raw(method, "/x", body=b"{}") == b'{"ok": 1}'
    assert clock.slept == [2.0, 3.0]
    assert len(script.requests) == 3


@pytest.mark.parametrize(("method", "sent"), [("GET", 2), ("POST", 1)])
async def test_a_server_error_with_retry_after_is_tried_again_unless_it_could_act_twice(
    method: str, sent: int
) -> None:
    """A 503 with Retry-After repeats a GET and never a POST."""
    script, clock = Script([busy(503, "1"), web.json_response({})]), Clock()
    async with serving(script) as url, client_of(url, clock) as client:
        if method == "GET":
            await client.raw(method, "/x")
        else:
            with pytest.raises(ServerError):
                await client.raw(method, "/x", body=b"{}")
    assert len(script.requests) == sent


async def test_a_plain_server_error_is_told_at_once() -> None:
    """A 500 without Retry-After, such as a failing webhook, is not repeated; its message is the server's."""
    script = Script([status(500, "InternalError", 'failed calling webhook "w"')])
    async with serving(script) as url, client_of(url) as client:
        with pytest.raises(ServerError) as refused:
            await client.raw("GET", "/x")
    assert str(refused.value) == 'failed calling webhook "w"'
    assert isinstance(refused.value, Transient)
    assert len(script.requests) == 1


@pytest.mark.parametrize("asked", ["0", "1", "3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_waiting_for_a_busy_server_is_bounded(asked: str) -> None:
    """However often and however long a server asks to wait, it ends within tries and time."""
    script, clock = Script([busy(429, asked)]), Clock()
    async with serving(script) as url, client_of(url, clock) as client:
        with pytest.raises(TooMany):
            await client.raw("GET", "/x")
    assert len(script.requests) <= 10
    assert sum(clock.slept) <= 30
    assert max(clock.slept) <= 10


async def test_a_refused_connection_is_tried_a_few_times() -> None:
    """When nobody listens even a POST is tried again, a few times, and then Unreachable says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        clock = Clock()
        async with client_of(f"http://127.0.0.1:{port}", clock) as client:
            with pytest.raises(Unreachable) as refused:
                await client.raw("POST", "/api/v1/x", body=b"{}")
    assert refused.value.message == f'Post "http://127.0.0.1:{port}/api/v1/x": connection refused'
    assert refused.value.unsent
    assert len(clock.slept) == 4
    assert sum(clock.slept) < 5


@pytest.mark.parametrize(("method", "sent"), [("GET", 2), ("POST", 1)])
async def test_a_lost_answer_repeats_only_what_cannot_act_twice(method: str, sent: int) -> None:
    """When the connection breaks after the request, a GET is repeated and a POST is not."""
    script, clock = Script([hang_up, web.json_response({})]), Clock()
    async with serving(script) as url, client_of(url, clock) as client:
        if method == "GET":
            await client.raw(method, "/x")
        else:
            with pytest.raises(Unreachable) as lost:
                await client.raw(method, "/x", body=b"{}")
            assert not lost.value.unsent
    # aiohttp itself repeats a GET on a kept connection, so it may have come once more.
    assert sent <= len(script.requests) <= sent + (method == "GET")


async def test_a_changed_token_file_is_read_after_a_401(tmp_path: Path) -> None:
    """A 401 makes the token file be read again at once, and the request be sent with the new token."""
    token = tmp_path / "token"
    token.write_text("old\n")

    async def check(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer new":
            return web.json_response({})
        token.write_text("new\n")
        return status(401, "Unauthorized", "Unauthorized")

    script = Script([check])
    async with serving(script) as url, client_of(url, token_file=str(token)) as client:
        await client.raw("POST", "/x", body=b"{}")
        assert len(script.requests) == 2
        token.write_text("wrong")
        await client.raw("GET", "/x")
    assert script.requests[-1].headers["Authorization"] == "Bearer new"


async def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path) -> None:
    """A renewed token file is used within 60 seconds without any refusal."""
    token = tmp_path / "token"
    token.write_text("old")
    script, clock = Script([web.json_response({})]), Clock()
    async with serving(script) as url, client_of(url, clock, token_file=str(token)) as client:
        await client.raw("GET", "/x")
        token.write_text("new")
        clock.seconds += 59
        await client.raw("GET", "/x")
        clock.seconds += 1
        await client.raw("GET", "/x")
    sent = [request.headers["Authorization"] for request in script.requests]
    assert sent == ["Bearer old", "Bearer old", "Bearer new"]


async def test_a_lasting_401_is_denied_and_shows_no_secret() -> None:
    """A refused static token is Denied after one request, and appears in no text we make."""
    script = Script([401])
    async with serving(script) as url:
        settings = ConnectionConfig(
            server=url, token="canary-token", password="canary-password", username="u"
        )
        async with client_of(url, token="canary-token") as client:
            with pytest.raises(Unauthorized) as refused:
                await client.raw("POST", "/x", body=b'{"a":"canary-body"}')
    assert isinstance(refused.value, Denied)
    assert len(script.requests) == 1
    assert "canary" not in f"{refused.value!s} {refused.value!r} {settings!r}"
    assert "canary" not in str(vars(refused.value))


async def test_basic_authentication_and_configured_impersonation_are_sent() -> None:
    """Username and password make a Basic header, and `as` of the kubeconfig goes on every request."""
    script = Script([web.json_response({})])
    who = Impersonation("jane", ("dev", "ops"), "7", (("example.com/team", ("a", "b")),))
    async with (
        serving(script) as url,
        client_of(url, username="u", password="p", impersonate=who) as client,
    ):
        await client.raw("GET", "/x", headers={"Impersonate-User": "root", "Authorization": "x"})
    headers = script.requests[0].headers
    assert headers.getall("Authorization") == ["Basic dTpw"]
    assert headers.getall("Impersonate-User") == ["jane"]
    assert headers.getall("Impersonate-Group") == ["dev", "ops"]
    assert headers.getall("Impersonate-Extra-example.com%2Fteam") == ["a", "b"]
    assert headers["Impersonate-Uid"] == "7"


async def test_a_redirect_is_not_followed() -> None:
    """Credentials go to the configured server only: a redirect is an error (S9)."""
    other = Script([200])
    async with serving(other) as elsewhere:
        script = Script([web.Response(status=302, headers={"Location": f"{elsewhere}/x"})])
        async with serving(script) as url, client_of(url, token="t") as client:
            with pytest.raises(ApiError, match="status code 302"):
                await client.raw("GET", "/x")
    assert other.requests == []


async def test_a_proxy_is_used_when_configured() -> None:
    """With a proxy URL requests go to the proxy, naming the server."""
    proxy = Script([web.json_response({"from": "proxy"})])
    async with (
        serving(proxy) as proxy_url,
        client_of("http://cluster.invalid:6443", proxy_url=proxy_url) as client,
    ):
        assert await client.raw("GET", "/version") == b'{"from": "proxy"}'
    assert proxy.requests[0].headers["Host"] == "cluster.invalid:6443"


async def test_every_answer_is_counted() -> None:
    """The observer is told method, resource, code and seconds of each answer, also of none."""
    told: list[tuple[str, str, int]] = []
    script = Script([busy(429, "1"), web.json_response({})])
    async with serving(script) as url:
        tools = Clock().tools()
        config = ConnectionConfig(server=url)
        async with await Client.open(
            config, tools=tools, observe=lambda method, what, code, _: told.append((method, what, code))
        ) as client:
            await client.raw("GET", "/x")
    assert told == [("GET", "raw", 429), ("GET", "raw", 200)]


class Pki:
    def __init__(self, folder: Path) -> None:
        self.authority = CertificateAuthority.make(folder / "ca")
        self.other = CertificateAuthority.make(folder / "other")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


async def test_the_server_must_prove_who_it_is(pki: Pki) -> None:
    """Another authority or name in the certificate is refused; only the kubeconfig can waive that (S25)."""
    script = Script([web.json_response({})])
    right, wrong = pki.authority.pem, pki.other.pem
    async with serving(script, pki.authority.server_tls("api.example.com").context()) as url:
        async with client_of(url, ca=right, tls_server_name="api.example.com") as client:
            await client.raw("GET", "/x")
        async with client_of(url, insecure=True) as client:
            await client.raw("GET", "/x")
        before = len(script.requests)
        for settings in (
            {"ca": wrong, "tls_server_name": "api.example.com"},
            {"ca": right},
            {"ca": right, "tls_server_name": "other.example.com"},
        ):
            async with client_of(url, Clock(), **settings) as client:
                with pytest.raises(Unreachable, match="failed to verify certificate"):
                    await client.raw("GET", "/x")
        assert len(script.requests) == before


async def test_a_client_certificate_proves_who_we_are(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client certificate reaches the server, and its key is left on no disk afterwards (S22)."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pair: KeyPair = pki.authority.client_cert("jane")
    names: list[object] = []

    async def who(request: web.BaseRequest) -> web.StreamResponse:
        peer = request.get_extra_info("peercert")
        names.append(dict(part[0] for part in peer["subject"])["commonName"])
        return web.json_response({})

    tls = pki.authority.server_tls("127.0.0.1", client_ca=pki.authority.file).context()
    async with serving(who, tls) as url:
        async with client_of(
            url, ca=pki.authority.pem, client_certificate=pair.certificate, client_key=pair.key
        ) as client:
            await client.raw("GET", "/x")
        async with client_of(url, Clock(), ca=pki.authority.pem) as client:
            with pytest.raises(Unreachable):
                await client.raw("GET", "/x")
    assert names == ["jane"]
    assert os.listdir(tmp_path) == []


def test_broken_certificates_are_named_without_their_content(pki: Pki) -> None:
    """A CA or a client pair that is no PEM is a ConfigError whose text quotes none of it."""
    with pytest.raises(ConfigError, match="certificate authority"):
        tls_context(ConnectionConfig("https://x", ca=b"canary"), Credential())
    with pytest.raises(ConfigError) as refused:
        tls_context(ConnectionConfig("https://x"), Credential("", b"canary", b"canary"))
    assert "canary" not in str(refused.value)
    assert tls_context(ConnectionConfig("https://x"), Credential()).verify_mode is ssl.CERT_REQUIRED


async def test_watches_do_not_take_connections_from_requests() -> None:
    """More open watches than the limit of requests leave requests untouched."""
    never = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            await never.wait()
            return response
        if request.path in ("/api", "/apis"):
            return web.json_response({"kind": "APIGroupList"})
        return web.json_response({"resources": [{"name": "pods", "kind": "Pod", "namespaced": True}]})

    async with serving(answer) as url, await Client.open(ConnectionConfig(url), limit=1) as client:

        async def follow() -> None:
            async for _ in client.watch(GVK("", "v1", "Pod")):
                pass

        watches = [asyncio.create_task(follow()) for _ in range(3)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await client.raw("GET", "/apis")
        for watch in watches:
            assert not watch.done()
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
