"""Credentials of a connection: static, from a file that changes, or from a plugin.

Role in the flow: `http` asks for the current credential before each request and for
a fresh one after a 401. Secrets stay here and in the header; none enters a message.
Source: Kubernetes documentation "client-go credential plugins";
k8s.io/client-go transport (token source) and plugin/pkg/client/auth/exec.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from gitwright.core.errors import Denied
from gitwright.core.objects import JSON
from gitwright.kube.config import ConnectionConfig, ExecPlugin

# Seconds that a token from a file is used before the file is read again; the kubelet
# renews the file long before the token ends. Source: client-go cachingTokenSource.
FILE_AGE = 60.0
# A plugin that takes longer is stuck.
PLUGIN_TIME = 60.0
_LARGEST = 1024 * 1024


class CredentialError(Denied):
    """No credential could be had."""

    reason = "AccessDenied"


@dataclass(frozen=True, slots=True)
class Credential:
    """What proves who we are.

    Args:
        authorization: value of the Authorization header, or empty.
        certificate: PEM chain for TLS, or empty.
        key: PEM key for TLS, or empty.
    """

    authorization: str = field(default="", repr=False)
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)


class Credentials(Protocol):
    """Gives credentials, new ones as they change."""

    async def current(self) -> Credential:
        """Give the credential to use now.

        Raises:
            CredentialError: none could be had.
        """

    async def refused(self, used: Credential) -> bool:
        """Take note of a 401; tells whether another credential is there to try.

        Args:
            used: the credential that was refused.
        """


def credentials_for(
    config: ConnectionConfig, *, monotonic: Callable[[], float], now: Callable[[], datetime]
) -> Credentials:
    """Choose how a configuration authenticates, in client-go's order of precedence.

    Args:
        config: the connection.
        monotonic: seconds of a clock that never goes back.
        now: the time in UTC.
    """
    certificate, key = config.client_certificate, config.client_key
    if config.token_file:
        return TokenFile(Path(config.token_file), Credential("", certificate, key), monotonic)
    if config.token:
        return Static(Credential(_bearer(config.token), certificate, key))
    if config.username:
        pair = base64.b64encode(f"{config.username}:{config.password}".encode()).decode()
        return Static(Credential(f"Basic {pair}", certificate, key))
    if config.exec is not None:
        return Plugin(config.exec, config, Credential("", certificate, key), now)
    return Static(Credential("", certificate, key))


def _bearer(token: str) -> str:
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CredentialError("the bearer token is empty or has characters that no token has")
    return f"Bearer {token}"


class Static:
    """A credential that never changes."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def current(self) -> Credential:
        """Give it."""
        return self._credential

    async def refused(self, used: Credential) -> bool:
        """There is no other."""
        return False


class TokenFile:
    """A bearer token in a file that somebody renews.

    Args:
        path: the file.
        base: client certificate to send besides.
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(self, path: Path, base: Credential, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._base = base
        self._monotonic = monotonic
        self._read: tuple[float, Credential] | None = None

    async def current(self) -> Credential:
        """Give the token as the file had it at most 60 seconds ago."""
        moment = self._monotonic()
        if self._read is None or moment - self._read[0] >= FILE_AGE:
            try:
                # A tmpfs file of a kilobyte: reading costs less than a thread would.
                text = self._path.read_text()
                fresh = Credential(_bearer(text), self._base.certificate, self._base.key)
            except (OSError, UnicodeDecodeError) as error:
                if self._read is None:
                    raise CredentialError("cannot read the token file", place=str(self._path)) from error
                fresh = self._read[1]
            self._read = (moment, fresh)
        return self._read[1]

    async def refused(self, used: Credential) -> bool:
        """Read the file again; tells whether the token is another one now."""
        if self._read is not None and self._read[1] == used:
            self._read = None
        return await self.current() != used


class Plugin:
    """A credential from a program, kept until it expires or is refused.

    Args:
        spec: the program.
        config: the connection; its environment is handed on.
        base: client certificate to send where the program gives none.
        now: the time in UTC.
    """

    def __init__(
        self, spec: ExecPlugin, config: ConnectionConfig, base: Credential, now: Callable[[], datetime]
    ) -> None:
        self._spec = spec
        self._config = config
        self._base = base
        self._now = now
        self._held: Credential | None = None
        self._expires: datetime | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> Credential:
        """Give the held credential, running the program where there is none or it has expired."""
        if self._held is None or self._expired():
            async with self._lock:
                if self._held is None or self._expired():
                    self._held, self._expires = self._parse(await self._run())
        return self._held

    async def refused(self, used: Credential) -> bool:
        """Drop the refused credential and run the program again."""
        if self._held == used:
            self._held = None
        return await self.current() != used

    def _expired(self) -> bool:
        return self._expires is not None and self._now() >= self._expires

    def _environment(self, *, interactive: bool) -> dict[str, str]:
        spec: JSON = {"interactive": interactive}
        if self._spec.cluster is not None:
            spec["cluster"] = self._spec.cluster
        info = {"apiVersion": self._spec.api_version, "kind": "ExecCredential", "spec": spec}
        extra = dict(self._spec.env)
        return {**self._config.environment, **extra, "KUBERNETES_EXEC_INFO": orjson.dumps(info).decode()}

    async def _run(self) -> bytes:
        spec = self._spec
        command = spec.command
        if "/" in command and not os.path.isabs(command):
            command = str(Path(spec.folder) / command)
        interactive = self._config.interactive and spec.interactive_mode != "Never"
        if spec.interactive_mode == "Always" and not interactive:
            raise CredentialError(f"exec plugin {spec.command} cannot support interactive mode: no terminal")
        # What a program writes to standard error may hold secrets, so it goes to a person or nowhere.
        other = None if interactive else asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                command,
                *spec.args,
                stdin=other,
                stdout=asyncio.subprocess.PIPE,
                stderr=other,
                env=self._environment(interactive=interactive),
            )
        except OSError as error:
            raise CredentialError(
                f"getting credentials: exec: executable {spec.command} not found", hint=spec.install_hint
            ) from error
        try:
            output, _ = await asyncio.wait_for(process.communicate(), PLUGIN_TIME)
        except TimeoutError:
            raise CredentialError(
                f"getting credentials: exec: {spec.command} took longer than {PLUGIN_TIME:g}s"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise CredentialError(
                f"getting credentials: exec: executable {spec.command} failed "
                f"with exit code {process.returncode}",
                hint=f"run {spec.command} by hand to see why",
            )
        return output

    def _parse(self, output: bytes) -> tuple[Credential, datetime | None]:
        try:
            answer: Any = orjson.loads(output) if len(output) <= _LARGEST else None
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
            raise CredentialError(f"exec plugin {self._spec.command} gave no ExecCredential")
        if answer.get("apiVersion") != self._spec.api_version:
            raise CredentialError(
                f"exec plugin is configured to use API version {self._spec.api_version}, "
                f"plugin returned version {str(answer.get('apiVersion'))[:64]}"
            )
        status = answer.get("status")
        status = status if isinstance(status, dict) else {}
        token = str(status.get("token") or "")
        certificate = str(status.get("clientCertificateData") or "").encode()
        key = str(status.get("clientKeyData") or "").encode()
        if not token and not certificate:
            raise CredentialError("exec plugin didn't return a token or cert/key pair")
        if bool(certificate) != bool(key):
            raise CredentialError("exec plugin returned only certificate or key, not both")
        credential = Credential(
            _bearer(token) if token else "", certificate or self._base.certificate, key or self._base.key
        )
        return credential, _moment(status.get("expirationTimestamp"))


def _moment(text: object) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise CredentialError(
            "exec plugin returned an expirationTimestamp that is no RFC 3339 time"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
