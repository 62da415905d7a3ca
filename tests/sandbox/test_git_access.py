"""Credentials, certificates, proxies, redirects, addresses, time limits: real servers, no leak."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gitwright.core.errors import GitwrightError, Stalled
from gitwright.transport.egress import Egress, EgressRefused
from gitwright.transport.git import GitAccess, GitError, Programs
from tests.sandbox.git_fixtures import ANONYMOUS, MAIN, Bench, bench, resolve, ssh_server
from tests.servers.git import CertificateAuthority, ConnectProxy, GitServer, make_key

__all__ = ["bench"]

SECRET = "canary-7f3a9b-p@ss:w/ord%"


async def failure(
    bench: Bench, url: str, access: GitAccess = ANONYMOUS, timeout: float = 20
) -> GitwrightError:
    """Resolve what must fail and give the error, which holds no secret."""
    with pytest.raises(GitwrightError) as caught:
        await resolve(bench.mirrors(), url, access, timeout=timeout)
    for secret in access.secrets():
        assert secret not in str(caught.value)
    return caught.value


async def test_basic_authentication(bench: Bench) -> None:
    """Right credentials are sent with the first request; wrong or missing ones are told."""
    sha = bench.repo().commit({"a": "1"})
    with GitServer(bench.served, username="user", password=SECRET) as server:
        url = server.url("repo")
        access = GitAccess(username="user", password=SECRET)
        assert (await resolve(bench.mirrors(), url, access)).commit == sha
        assert all("Authorization" in request.headers for request in server.requests)
        for wrong in (ANONYMOUS, GitAccess(username="user", password=SECRET + "x")):
            error = await failure(bench, url, wrong)
            assert isinstance(error, GitError)
            assert f"unable to clone '{url}': authentication required: " in error.message
            assert "secretRef" in error.hint


async def test_credentials_in_the_url_are_a_fallback_and_never_shown(bench: Bench) -> None:
    """User and password of a URL work, and the password is in no message."""
    sha = bench.repo().commit({"a": "1"})
    with GitServer(bench.served, username="user", password="geheim") as server:
        with_password = server.url("repo").replace("://", "://user:geheim@")
        assert (await resolve(bench.mirrors(), with_password)).commit == sha
        error = await failure(bench, server.url("absent").replace("://", "://user:geheim@"))
        assert "geheim" not in str(error)
        assert "user:*****@" in error.message


async def test_bearer_token(bench: Bench) -> None:
    """A bearer token wins over basic credentials."""
    sha = bench.repo().commit({"a": "1"})
    with GitServer(bench.served, bearer=SECRET) as server:
        access = GitAccess(bearer=SECRET, username="u", password="p")
        assert (await resolve(bench.mirrors(), server.url("repo"), access)).commit == sha
        assert (
            "authentication required"
            in (await failure(bench, server.url("repo"), GitAccess(bearer="no"))).message
        )


async def test_a_token_with_a_line_break_is_refused(bench: Bench) -> None:
    """A credential cannot smuggle a header."""
    bench.repo().commit({"a": "1"})
    with GitServer(bench.served) as server:
        error = await failure(bench, server.url("repo"), GitAccess(bearer="x\r\nX-Evil: 1"))
        assert "invalid header field value" in error.message
        assert server.requests == []


async def test_https_needs_an_authority_that_is_trusted(bench: Bench) -> None:
    """A private authority works when the Secret names it, for the names in the certificate only (S25)."""
    sha = bench.repo().commit({"a": "1"})
    authority = CertificateAuthority.make(bench.folder / "ca")
    other = CertificateAuthority.make(bench.folder / "other")
    with GitServer(bench.served, tls=authority.server_tls("127.0.0.1")) as server:
        url = server.url("repo")
        assert (await resolve(bench.mirrors(), url, GitAccess(ca=authority.pem))).commit == sha
        for access in (ANONYMOUS, GitAccess(ca=other.pem)):
            assert "tls: failed to verify certificate" in (await failure(bench, url, access)).message
        named = url.replace("127.0.0.1", "localhost")
        assert "tls: failed to verify" in (await failure(bench, named, GitAccess(ca=authority.pem))).message


async def test_the_systems_authorities_come_from_the_environment(bench: Bench) -> None:
    """SSL_CERT_FILE is honoured, as by Flux."""
    sha = bench.repo().commit({"a": "1"})
    authority = CertificateAuthority.make(bench.folder / "ca")
    programs = Programs.of({"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(authority.file)})
    with GitServer(bench.served, tls=authority.server_tls("127.0.0.1")) as server:
        mirrors = bench.mirrors(programs=programs)
        assert (await resolve(mirrors, server.url("repo"))).commit == sha


async def test_mutual_tls(bench: Bench) -> None:
    """A server that asks for a client certificate gets the one of the Secret."""
    sha = bench.repo().commit({"a": "1"})
    authority = CertificateAuthority.make(bench.folder / "ca")
    client = authority.client_cert()
    with GitServer(bench.served, tls=authority.server_tls("127.0.0.1", client_ca=authority.file)) as server:
        access = GitAccess(ca=authority.pem, client_cert=client.certificate, client_key=client.key)
        assert (await resolve(bench.mirrors(), server.url("repo"), access)).commit == sha
        assert "gitwright" in server.requests[0].client_subject
        await failure(bench, server.url("repo"), GitAccess(ca=authority.pem))


async def test_a_proxy_of_the_secret(bench: Bench) -> None:
    """The proxy leads to the server, gets its own credentials, and the server never sees them."""
    sha = bench.repo().commit({"a": "1"})
    authority = CertificateAuthority.make(bench.folder / "ca")
    with (
        GitServer(bench.served, tls=authority.server_tls("git.example.org")) as server,
        ConnectProxy({"git.example.org:443": server.address}, username="p", password=SECRET) as proxy,
    ):
        url = "https://git.example.org/repo.git"
        good = GitAccess(ca=authority.pem, proxy=proxy.url, proxy_username="p", proxy_password=SECRET)
        assert (await resolve(bench.mirrors(), url, good)).commit == sha
        assert "CONNECT git.example.org:443" in proxy.seen
        assert not any("Proxy-Authorization" in request.headers for request in server.requests)
        bad = replace(good, proxy_password="wrong" + SECRET)
        assert "proxy" in (await failure(bench, url, bad)).message
        elsewhere = await failure(bench, "https://other.example.org/repo.git", good)
        assert "proxy" in elsewhere.message


async def test_the_operators_proxy_comes_from_the_environment(bench: Bench) -> None:
    """HTTPS_PROXY and HTTP_PROXY are used for other hosts, not for loopback or NO_PROXY."""
    sha = bench.repo().commit({"a": "1"})
    authority = CertificateAuthority.make(bench.folder / "ca")
    with (
        GitServer(bench.served, tls=authority.server_tls("github.com")) as secure,
        GitServer(bench.served) as plain,
        ConnectProxy({"github.com:443": secure.address, "git.example.org:80": plain.address}) as proxy,
    ):
        environment = {
            "PATH": os.environ["PATH"],
            "HTTPS_PROXY": proxy.url,
            "HTTP_PROXY": proxy.url,
            "SSL_CERT_FILE": str(authority.file),
            "NO_PROXY": "internal.example.org,.corp",
        }
        mirrors = bench.mirrors(programs=Programs.of(environment))
        for url in ("https://github.com/repo.git", "http://git.example.org/repo.git", plain.url("repo")):
            assert (await resolve(mirrors, url)).commit == sha
        seen = len(proxy.seen)
        with pytest.raises(GitError, match="no such host"):
            await resolve(mirrors, "https://internal.example.org/repo.git")
        assert len(proxy.seen) == seen


async def test_credentials_stay_with_their_server(bench: Bench) -> None:
    """A redirect to another server is followed without the credentials, within one server with them (S9)."""
    sha = bench.repo().commit({"a": "1"})
    access = GitAccess(username="user", password=SECRET)
    with (
        GitServer(bench.served, username="user", password=SECRET) as home,
        GitServer(bench.served) as other,
    ):
        home.redirects = {"/moved.git": home.url("repo"), "/away.git": other.url("repo")}
        mirrors = bench.mirrors()
        for name in ("moved", "away"):
            url = home.url(name)
            resolved = await resolve(mirrors, url, access)
            assert resolved.commit == sha
            assert (await mirrors.fetch(url, access, MAIN, resolved, 20)).sha == sha
        assert other.requests
        assert not any("Authorization" in request.headers for request in other.requests)


async def test_redirects_end(bench: Bench) -> None:
    """A circle of redirects, one to no repository and one to a refused address are errors (S36)."""
    bench.repo().commit({"a": "1"})
    with GitServer(bench.served) as server:
        server.redirects = {
            "/circle.git": server.url("circle"),
            "/page.git/info/refs": server.base + "/login?x=",
            "/metadata.git": "http://169.254.169.254/repo.git",
        }
        assert "redirects" in (await failure(bench, server.url("circle"))).message
        assert "no repository" in (await failure(bench, server.url("page"))).message
        assert "link-local" in (await failure(bench, server.url("metadata"))).message


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "0xa9fea9fe",
        "100.100.100.200",
    ],
)
async def test_metadata_addresses_are_always_refused(bench: Bench, host: str) -> None:
    """No spelling of a link-local or metadata address is asked, whatever is allowed (S36)."""
    error = await failure(bench, f"http://{host}/repo.git", timeout=5)
    assert "is refused" in error.message


async def test_loopback_needs_a_setting_and_our_own_ports_stay_closed(bench: Bench) -> None:
    """Loopback is refused without the setting, by every name; our own ports always are (S36)."""
    bench.repo().commit({"a": "1"})
    with GitServer(bench.served) as server:
        for host in ("127.0.0.1", "localhost", "127.1", "[::1]", "[::ffff:127.0.0.1]"):
            url = server.url("repo").replace("127.0.0.1", host)
            with pytest.raises(GitError, match="loopback"):
                await resolve(bench.mirrors(egress=Egress()), url)
        own = Egress(allow_loopback=True, own_ports=frozenset({server.address[1]}))
        with pytest.raises(GitError, match="engine's own"):
            await resolve(bench.mirrors(egress=own), server.url("repo"))
        assert server.requests == []


async def test_a_name_cannot_change_between_check_and_use(bench: Bench) -> None:
    """git connects to the address that was checked, not to what the name says a moment later (S36)."""
    sha = bench.repo().commit({"a": "1"})

    async def checked(host: str, port: int) -> list[str]:
        assert host == "git.example.org"
        return ["127.0.0.1"]

    async def bad(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "169.254.169.254"]

    with GitServer(bench.served) as server:
        url = f"http://git.example.org:{server.address[1]}/repo.git"
        egress = Egress(allow_loopback=True, resolve=checked)
        assert (await resolve(bench.mirrors(egress=egress), url)).commit == sha
        with pytest.raises(GitError, match="link-local"):
            await resolve(bench.mirrors(egress=Egress(allow_loopback=True, resolve=bad)), url)


async def test_denied_networks(bench: Bench) -> None:
    """A setting can refuse further networks."""
    import ipaddress

    egress = Egress(denied=(ipaddress.ip_network("10.0.0.0/8"),))
    with pytest.raises(EgressRefused, match="setting denies"):
        await egress.check("10.1.2.3", 443)
    assert await egress.check("11.1.2.3", 443) == ("11.1.2.3",)


async def test_ssh(bench: Bench) -> None:
    """ssh works with a key and known hosts, a key with a passphrase too."""
    repo = bench.repo()
    sha = repo.commit({"a": "1"})
    with ssh_server(bench, passphrase=SECRET) as server:
        access = GitAccess(identity=server.identity, passphrase=SECRET, known_hosts=server.known_hosts)
        mirrors = bench.mirrors()
        resolved = await resolve(mirrors, server.url("repo"), access)
        assert resolved.commit == sha
        assert (await mirrors.fetch(server.url("repo"), access, MAIN, resolved, 20)).subject == "commit 1"
        gone = await failure(bench, server.url("absent"), access)
        assert "repository not found" in gone.message


async def test_ssh_refuses_what_it_does_not_know(bench: Bench) -> None:
    """An unknown host, a changed host key, a foreign key and a wrong passphrase each say so (S25)."""
    bench.repo().commit({"a": "1"})
    stranger = make_key(bench.folder / "keys" / "stranger")
    public = _words(bench.folder / "keys" / "stranger.pub")
    with ssh_server(bench, passphrase=SECRET) as server:
        good, url = server.identity, server.url("repo")
        key = b" ".join(public[:2])
        unknown = GitAccess(identity=good, passphrase=SECRET, known_hosts=b"example.org " + key)
        error = await failure(bench, url, unknown)
        assert "knownhosts: key is unknown" in error.message
        assert "host key is known" in error.detail
        line = f"[127.0.0.1]:{server.port} ".encode() + key
        changed = GitAccess(identity=good, passphrase=SECRET, known_hosts=line)
        assert "knownhosts: key mismatch" in (await failure(bench, url, changed)).message
        foreign = GitAccess(identity=stranger, known_hosts=server.known_hosts)
        assert "unable to authenticate" in (await failure(bench, url, foreign)).message
        locked = GitAccess(identity=good, passphrase="no", known_hosts=server.known_hosts)
        assert "unable to authenticate" in (await failure(bench, url, locked)).message


def _words(path: Path) -> list[bytes]:
    return path.read_bytes().split()


async def test_no_secret_is_in_any_process_or_left_behind(bench: Bench) -> None:
    """While git and ssh run, no command line or environment holds a credential; afterwards no file (S22)."""
    bench.repo().commit({"a": "1"})
    authority = CertificateAuthority.make(bench.folder / "ca")
    pair = authority.client_cert()
    canaries = [SECRET, GitAccess(username="user", password=SECRET).authorization.split()[1]]
    with (
        GitServer(
            bench.served, username="user", password=SECRET, tls=authority.server_tls("g.org")
        ) as server,
        ConnectProxy({"g.org:443": server.address}, username="p", password=SECRET) as proxy,
        ssh_server(bench, passphrase=SECRET) as ssh,
    ):
        server.delay = 0.4
        web = GitAccess(
            username="user",
            password=SECRET,
            ca=authority.pem,
            client_cert=pair.certificate,
            client_key=pair.key,
            proxy=proxy.url,
            proxy_username="p",
            proxy_password=SECRET,
        )
        key = GitAccess(identity=ssh.identity, passphrase=SECRET, known_hosts=ssh.known_hosts)
        mirrors = bench.mirrors()
        stop = asyncio.Event()
        watcher = asyncio.create_task(asyncio.to_thread(_watch, stop, canaries))
        for url, access in (("https://g.org/repo.git", web), (ssh.url("repo"), key)):
            resolved = await resolve(mirrors, url, access)
            await mirrors.fetch(url, access, MAIN, resolved, 20)
        stop.set()
        names, leaks = await watcher
    assert {"git", "ssh"} <= names
    assert leaks == []
    assert bench.leftovers() == []
    assert repr(web).count("canary") == 0
    assert _files_with(bench.folder / "mirrors", canaries) == []


def _watch(stop: asyncio.Event, canaries: list[str]) -> tuple[set[str], list[str]]:
    """Look at every process but this one until told to stop; give the names seen and the leaks."""
    names: set[str] = set()
    leaks: list[str] = []
    own = Path("/proc/self/cmdline").read_bytes()
    while not stop.is_set():
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or process.name == str(os.getpid()):
                continue
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes()
                # A child between fork and exec still shows this process's own line.
                if line == own:
                    continue
                names.add(Path(os.fsdecode(line.split(b"\0")[0])).name)
                text = line + b"\0"
                # A program that protects itself shows its environment to nobody.
                with contextlib.suppress(PermissionError):
                    text += (process / "environ").read_bytes()
                leaks += [f"{process}: {canary}" for canary in canaries if canary.encode() in text]
        time.sleep(0.005)
    return names, leaks


def _files_with(folder: Path, canaries: list[str]) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    wanted = [canary.encode() for canary in canaries]
    return [str(path) for path in files if any(canary in path.read_bytes() for canary in wanted)]


async def test_a_time_limit_kills_everything(bench: Bench) -> None:
    """A server that never answers costs the time limit, and no process outlives it."""
    bench.repo().commit({"a": "1"})
    with GitServer(bench.served) as server:
        server.delay = 60
        began = time.monotonic()
        error = await failure(bench, server.url("repo"), timeout=0.5)
        assert time.monotonic() - began < 5
        assert "context deadline exceeded" in error.message
        assert await asyncio.to_thread(_processes_with, server.url("repo")) == []
    assert bench.leftovers() == []


async def test_cancelling_kills_everything(bench: Bench) -> None:
    """A cancelled fetch leaves no process, and the next one works."""
    bench.repo().commit({"a": "1"})
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        url = server.url("repo")
        resolved = await resolve(mirrors, url)
        server.delay = 60
        fetch = asyncio.create_task(mirrors.fetch(url, ANONYMOUS, MAIN, resolved, 60))
        await asyncio.to_thread(server.wait_for, len(server.requests) + 1)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert await asyncio.to_thread(_processes_with, url) == []
        server.delay = 0
        assert (await mirrors.fetch(url, ANONYMOUS, MAIN, resolved, 20)).sha == resolved.commit


def _processes_with(text: str) -> list[str]:
    """Find processes whose command line holds a text; dead ones have none."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes()
                if text.encode() in line:
                    found.append(os.fsdecode(line))
    return found


async def test_an_unreachable_server_is_told(bench: Bench) -> None:
    """Nobody listening, an unknown name and a broken server are told apart."""
    bench.repo().commit({"a": "1"})
    assert "connection refused" in (await failure(bench, "http://127.0.0.1:1/repo.git")).message
    assert "no such host" in (await failure(bench, "http://nowhere.invalid/repo.git")).message
    with GitServer(bench.served) as server:
        server.status = 503
        assert "status code: 503" in (await failure(bench, server.url("repo"))).message
        server.status = 403
        assert "authorization failed: " in (await failure(bench, server.url("repo"))).message


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "ext::sh -c true",
        "git@github.com:a/b.git",
        "https://",
        "http://host:port/x",
        "http://a b/x",
        "ssh://-oProxyCommand=x/y",
        "ssh://-l@host/y",
        "https://host/x\ny",
    ],
)
async def test_urls_that_are_none_stall(bench: Bench, url: str) -> None:
    """Only http, https and ssh URLs are taken, and no option can be smuggled in one (S4)."""
    error = await failure(bench, url)
    assert isinstance(error, Stalled)
    assert error.reason == "URLInvalid"


async def test_a_server_that_hangs_holds_up_no_other(bench: Bench) -> None:
    """However many sources wait for one server, those of another are served at once (S13)."""
    for number in range(20):
        bench.repo(f"r{number}").commit({"a": "1"})
    mirrors = bench.mirrors()
    with GitServer(bench.served) as slow, GitServer(bench.served) as quick:
        slow.delay = 60
        waiting = [
            asyncio.create_task(resolve(mirrors, slow.url(f"r{number}"), timeout=30)) for number in range(20)
        ]
        await asyncio.to_thread(slow.wait_for, 16)
        url = quick.url("r1")
        resolved = await resolve(mirrors, url, timeout=10)
        assert (await mirrors.fetch(url, ANONYMOUS, MAIN, resolved, 10)).sha == resolved.commit
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await mirrors.close()
        assert await asyncio.to_thread(_processes_with, slow.base) == []
