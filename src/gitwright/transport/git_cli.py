"""Running the git program: clean environment, private configuration, limits, a kill that reaches all.

Role in the flow: below the mirrors; one call is one process group. Must not know
what is fetched or why. Credentials live in 0600 files of a private folder that
exists for the length of one operation; argument lists and environments hold paths
only (S4, S22).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import ssl
import tempfile
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitwright.core.errors import Transient
from gitwright.transport.access import GitAccess, Remote
from gitwright.transport.egress import Egress, as_address

_CHUNK = 1 << 16
_STDERR_LIMIT = 1 << 16


class GitError(Transient):
    """A Git operation failed; the message is Flux's where Flux has one."""

    reason = "GitOperationFailed"


@dataclass(frozen=True, slots=True)
class Output:
    """What a finished process left: exit code, standard output, standard error."""

    code: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True, slots=True)
class Programs:
    """How to run git.

    Args:
        git: the program.
        path: the PATH it and its helpers are found by.
        proxies: `http` and `https` -> URL of the operator's own proxy.
        no_proxy: hosts that the operator's proxy is not for, as NO_PROXY lists them.
        system_ca: file of the certificates that the system trusts, or None for git's own default.
    """

    git: str = "git"
    path: str = os.defpath
    proxies: tuple[tuple[str, str], ...] = ()
    no_proxy: str = ""
    system_ca: Path | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], git: str = "git") -> Programs:
        """Take what counts from the process's environment: PATH, proxies, SSL_CERT_FILE."""
        proxies = []
        for scheme in ("http", "https"):
            names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
            # An upper-case HTTP_PROXY is taken too, as Go does outside of CGI.
            found = next((environment[name] for name in names if environment.get(name)), "")
            if found:
                proxies.append((scheme, found))
        no_proxy = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        named = environment.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        return cls(
            git,
            environment.get("PATH", os.defpath),
            tuple(proxies),
            no_proxy,
            Path(named) if named else None,
        )

    def proxy_for(self, remote: Remote) -> str:
        """Give the operator's proxy for a remote, or an empty text; never for loopback, as in Go."""
        if remote.host == "localhost" or _is_loopback(remote.host) or self._excluded(remote):
            return ""
        return dict(self.proxies).get(remote.scheme, "")

    def _excluded(self, remote: Remote) -> bool:
        for raw in self.no_proxy.split(","):
            entry, _, port = raw.strip().lower().partition(":")
            if not entry or (port and port != str(remote.port)):
                continue
            bare = entry.removeprefix("*").removeprefix(".")
            host = remote.host.lower()
            if entry == "*" or (bare and (host == bare or host.endswith("." + bare))):
                return True
        return False


def _is_loopback(host: str) -> bool:
    address = as_address(host)
    return address is not None and address.is_loopback


@dataclass(frozen=True, slots=True)
class Session:
    """A prepared operation at one remote: run git with `run`, then read `redirect`."""

    programs: Programs
    remote: Remote
    environment: Mapping[str, str]
    trace: Path

    async def run(
        self,
        *arguments: str,
        timeout: float,
        limit: int = 64 << 20,
        watch: Callable[[], bool] | None = None,
    ) -> Output:
        """Run git with arguments; see `run`."""
        return await run(
            (self.programs.git, *arguments),
            environment=self.environment,
            timeout=timeout,
            limit=limit,
            watch=watch,
        )

    async def redirect(self) -> str:
        """Give the URL that the server sent us to instead, or an empty text.

        git itself follows no redirect: the target is checked first, and gets the
        credentials only if it is the same server (S9, S36).
        """
        return await asyncio.to_thread(_location, self.trace)


@contextlib.asynccontextmanager
async def session(
    remote: Remote, access: GitAccess, *, programs: Programs, egress: Egress, private: Path
) -> AsyncIterator[Session]:
    """Check the address, write the private files, and take them away at the end.

    Args:
        remote: where to.
        access: the credentials for exactly this remote.
        programs: how to run git.
        egress: which addresses are allowed.
        private: folder for the private files; best in memory.

    Raises:
        EgressRefused: the address is refused.
        OSError: the name cannot be resolved.
        GitError: a credential cannot be sent as it is.
    """
    proxy = _proxy(remote, access, programs)
    pinned = await _addresses(remote, access, proxy, egress)
    folder = Path(await asyncio.to_thread(_make_folder, private))
    try:
        environment = await asyncio.to_thread(_prepare, folder, remote, access, programs, proxy, pinned)
        yield Session(programs, remote, environment, folder / "trace")
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _make_folder(private: Path) -> str:
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix="git-", dir=private)


async def _addresses(remote: Remote, access: GitAccess, proxy: str, egress: Egress) -> tuple[str, ...]:
    """Check where the connection goes; give the addresses to pin the remote's name to."""
    if access.proxy:
        place = urllib.parse.urlsplit(access.proxy)
        await egress.check(place.hostname or "", place.port or 80)
    if proxy:
        # The proxy resolves the name; an address written out is still ours to judge.
        if as_address(remote.host) is not None or remote.host == "localhost":
            await egress.check(remote.host, remote.port)
        return ()
    return await egress.check(remote.host, remote.port)


def _proxy(remote: Remote, access: GitAccess, programs: Programs) -> str:
    if remote.scheme == "ssh":
        return ""
    if not access.proxy:
        return programs.proxy_for(remote)
    if not access.proxy_username:
        return access.proxy
    scheme, _, rest = access.proxy.partition("://")
    user = urllib.parse.quote(access.proxy_username, safe="")
    password = urllib.parse.quote(access.proxy_password, safe="")
    return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"


def _prepare(
    folder: Path,
    remote: Remote,
    access: GitAccess,
    programs: Programs,
    proxy: str,
    pinned: Sequence[str],
) -> dict[str, str]:
    """Write the files of one operation; give the environment that names them."""
    config = folder / "config"
    text = _configuration(folder, remote, access, programs, proxy, pinned)
    _write(config, text.encode(errors="surrogateescape"))
    environment = base_environment(programs, home=folder, config=config)
    if remote.scheme == "ssh":
        environment |= _ssh(folder, access)
    else:
        environment |= {
            "GIT_TRACE_CURL": str(folder / "trace"),
            "GIT_TRACE_CURL_NO_DATA": "1",
            "GIT_TRACE_REDACT": "1",
        }
    return environment


def base_environment(programs: Programs, *, home: Path, config: Path | None = None) -> dict[str, str]:
    """Give the whole environment of a git process: nothing of ours leaks into it."""
    return {
        "PATH": programs.path,
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config) if config else os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https:ssh",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


def _configuration(
    folder: Path,
    remote: Remote,
    access: GitAccess,
    programs: Programs,
    proxy: str,
    pinned: Sequence[str],
) -> str:
    lines = ["[safe]", "directory = *", "[gc]", "auto = 0", "[maintenance]", "auto = false"]
    lines += ["[protocol]", "version = 2", "[credential]", 'helper = ""', "[advice]", "detachedHead = false"]
    if remote.scheme == "ssh":
        return "\n".join([*lines, ""])
    lines += ["[http]", "followRedirects = false", "sslVerify = true", f"proxy = {_quote(proxy)}"]
    authority = _authority(folder, access, programs)
    if authority is not None:
        lines.append(f"sslCAInfo = {_quote(str(authority))}")
    if access.client_cert:
        for name, content in (("sslCert", access.client_cert), ("sslKey", access.client_key)):
            _write(folder / name, content)
            lines.append(f"{name} = {_quote(str(folder / name))}")
    if pinned and as_address(remote.host) is None:
        targets = ",".join(f"[{address}]" if ":" in address else address for address in pinned)
        lines.append(f"curloptResolve = {_quote(f'{remote.host}:{remote.port}:{targets}')}")
    if access.authorization:
        lines += [
            f"[http {_quote(remote.url)}]",
            f"extraHeader = {_quote('Authorization: ' + access.authorization)}",
        ]
    return "\n".join([*lines, ""])


def _quote(value: str) -> str:
    """Write a value as a git configuration file wants it.

    Raises:
        GitError: it has a line break or NUL, which no header or path may have.
    """
    if any(letter in value for letter in "\n\r\0"):
        raise GitError(
            'net/http: invalid header field value for "Authorization"',
            reason="AuthenticationFailed",
            hint="a credential in the Secret has a line break in it; write it again without one",
        )
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _authority(folder: Path, access: GitAccess, programs: Programs) -> Path | None:
    if not access.ca:
        return programs.system_ca
    # A CA in a Secret is trusted besides the system's, as in Flux.
    known = b""
    if programs.system_ca is not None:
        with contextlib.suppress(OSError):
            known = programs.system_ca.read_bytes()
    path = folder / "ca.crt"
    _write(path, known + b"\n" + access.ca + b"\n")
    return path


def _ssh(folder: Path, access: GitAccess) -> dict[str, str]:
    identity, hosts = folder / "identity", folder / "known_hosts"
    # The ssh program refuses a key file whose last line is not ended.
    _write(identity, access.identity.rstrip(b"\n") + b"\n")
    _write(hosts, access.known_hosts.rstrip(b"\n") + b"\n")
    options = {
        "UserKnownHostsFile": str(hosts),
        "GlobalKnownHostsFile": os.devnull,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ForwardAgent": "no",
        "ConnectTimeout": "30",
        "LogLevel": "ERROR",
    }
    words = ["ssh", "-F", os.devnull, "-i", str(identity)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    # git starts this through its own word splitting; only paths and options are in it.
    environment = {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}
    helper, answer = folder / "askpass", folder / "passphrase"
    _write(answer, access.passphrase.encode() + b"\n")
    _write(helper, f"#!/bin/sh\nexec cat {shlex.quote(str(answer))}\n".encode(), mode=0o700)
    return environment | {"SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _location(trace: Path) -> str:
    try:
        text = trace.read_text(errors="replace")
    except OSError:
        return ""
    found = ""
    for line in text.splitlines():
        _, mark, header = line.partition("<= Recv header: ")
        name, colon, value = header.partition(":")
        if mark and colon and name.strip().lower() == "location":
            found = value.strip()
    return found


async def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,
    stdin: bytes = b"",
    limit: int = 64 << 20,
    watch: Callable[[], bool] | None = None,
) -> Output:
    """Run a program in a process group of its own; whatever happens, nothing of it is left.

    Args:
        command: program and arguments; never a shell line.
        environment: its whole environment.
        timeout: seconds until the group is killed.
        stdin: what it reads.
        limit: bytes of output it may write.
        watch: asked twice a second; false ends the program (disk limits).

    Raises:
        TimeoutError: it took longer than the time limit.
        GitError: it wrote more than the limit, or `watch` ended it.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            out = group.create_task(_read(process.stdout, limit))
            err = group.create_task(_read(process.stderr, _STDERR_LIMIT, tail=True))
            feeding = group.create_task(_feed(process.stdin, stdin))
            watching = group.create_task(_watch(watch)) if watch else None
            stdout, stderr = await out, await err
            await feeding
            code = await process.wait()
            if watching is not None:
                watching.cancel()
        return Output(code, stdout, stderr.decode(errors="replace"))
    except BaseExceptionGroup as group_error:
        # One cause is enough; the others are its echo.
        raise group_error.exceptions[0] from None
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of a process group and reap the process."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


async def _read(stream: asyncio.StreamReader | None, limit: int, *, tail: bool = False) -> bytes:
    parts: list[bytes] = []
    size = 0
    while stream is not None and (data := await stream.read(_CHUNK)):
        size += len(data)
        if size > limit and not tail:
            raise GitError(f"git wrote more than the limit of {limit} bytes")
        if size <= limit:
            parts.append(data)
    return b"".join(parts)


async def _feed(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    # A program that has heard enough may close its end first.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for start in range(0, len(data), _CHUNK):
            stream.write(data[start : start + _CHUNK])
            await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _watch(watch: Callable[[], bool]) -> None:
    # The disk tells nobody when it fills, so it is asked.
    while await asyncio.to_thread(watch):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    raise GitError("the repository is larger than the limit")
