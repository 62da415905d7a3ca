"""What gets us into a remote: credentials, certificates, proxy; and the URL they belong to.

Role in the flow: values made from a Secret by a source, used by a transport. Nothing
here is ever printed: secrets have no part in `repr`, and `clean` takes them out of
other programs' words (S22). Must not know Kubernetes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.parse
from dataclasses import dataclass, field

from gitwright.core.errors import Stalled

HIDDEN = "*****"
_DEFAULT_PORTS = {"http": 80, "https": 443, "ssh": 22}


@dataclass(frozen=True, slots=True)
class GitAccess:
    """Credentials for one Git remote; all empty means anonymous.

    Args:
        username: for basic authentication (http, https).
        password: for basic authentication.
        bearer: token sent as `Authorization: Bearer`; wins over basic.
        ca: PEM certificates trusted besides the system's.
        client_cert: PEM client certificate.
        client_key: PEM key of `client_cert`.
        identity: ssh private key.
        passphrase: of `identity`.
        known_hosts: the server's ssh host keys, as a known_hosts file.
        proxy: URL of the proxy, without credentials; empty for none of its own.
        proxy_username: at the proxy.
        proxy_password: at the proxy.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    ca: bytes = field(default=b"", repr=False)
    client_cert: bytes = field(default=b"", repr=False)
    client_key: bytes = field(default=b"", repr=False)
    identity: bytes = field(default=b"", repr=False)
    passphrase: str = field(default="", repr=False)
    known_hosts: bytes = field(default=b"", repr=False)
    proxy: str = ""
    proxy_username: str = field(default="", repr=False)
    proxy_password: str = field(default="", repr=False)

    @property
    def authorization(self) -> str:
        """The value of the Authorization header, or empty."""
        if self.bearer:
            return f"Bearer {self.bearer}"
        if self.username or self.password:
            return (
                "Basic "
                + base64.b64encode(
                    f"{self.username}:{self.password}".encode(errors="surrogateescape")
                ).decode()
            )
        return ""

    def secrets(self) -> tuple[str, ...]:
        """Give every text that must never be shown, longest first."""
        found = {self.password, self.bearer, self.passphrase, self.proxy_password}
        if self.authorization:
            found.add(self.authorization.partition(" ")[2])
        found |= {urllib.parse.quote(secret, safe="", errors="surrogateescape") for secret in found}
        for pem in (self.identity, self.client_key):
            found |= {line for line in pem.decode(errors="replace").splitlines() if len(line) > 15}
        return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))

    def clean(self, text: str) -> str:
        """Give the text with every secret hidden."""
        for secret in self.secrets():
            text = text.replace(secret, HIDDEN)
        return text

    def fingerprint(self, key: bytes, url: str) -> str:
        """Give a word for this access at a URL that nobody without the key can check guesses against."""
        values = [getattr(self, name) for name in self.__slots__]
        text = json.dumps([url, *(v.decode("latin-1") if isinstance(v, bytes) else v for v in values)])
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote's URL, taken apart; `url` never holds a password.

    Args:
        url: what the git program is given.
        scheme: `http`, `https` or `ssh`.
        host: name or address, without brackets.
        port: the port, the scheme's own if the URL has none.
        user: the user name in the URL (ssh), or empty.
        username: user name found in an http URL, a fallback for credentials.
        password: password found in an http URL.
    """

    url: str
    scheme: str
    host: str
    port: int
    user: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Remote:
        """Take a URL apart.

        Raises:
            Stalled: `URLInvalid`; it is no http, https or ssh URL that could be asked.
        """
        shown = hide_password(url)
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Stalled(
                f"failed to parse url '{shown}': parse \"{shown}\": {error}", reason="URLInvalid"
            ) from error
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise Stalled(
                f"failed to parse url '{shown}': it must be an http, https or ssh URL with a host",
                reason="URLInvalid",
                hint="write it as https://host/path or ssh://git@host/path",
            )
        if any(ord(letter) < 33 or ord(letter) == 127 for letter in url) or parts.hostname.startswith("-"):
            raise Stalled(
                f"failed to parse url {shown!r}: net/url: invalid control character in URL",
                reason="URLInvalid",
            )
        username = urllib.parse.unquote(parts.username or "")
        password = urllib.parse.unquote(parts.password or "")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = host if port is None else f"{host}:{port}"
        known = parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
        if parts.scheme == "ssh":
            if username.startswith("-"):
                raise Stalled(f"failed to parse url '{shown}': invalid user name", reason="URLInvalid")
            # Without a name the ssh program would take that of this process; Flux takes git.
            user = username or "git"
            place = f"{urllib.parse.quote(user, safe='')}@{place}"
            clean = urllib.parse.urlunsplit(("ssh", place, parts.path, "", ""))
            return cls(clean, "ssh", *known, user=user)
        clean = urllib.parse.urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
        return cls(clean, parts.scheme, *known, username=username, password=password)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials are bound to (S9)."""
        return (self.scheme, self.host, self.port)


def hide_password(url: str) -> str:
    """Give a URL whose password, if it has one, is hidden."""
    scheme, sep, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    if not (sep and at and ":" in user):
        return url
    return f"{scheme}://{user.partition(':')[0]}:{HIDDEN}@{host}{slash}{path}"
