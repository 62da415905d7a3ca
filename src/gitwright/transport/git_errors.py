"""What git's words mean, in Flux's words.

Role in the flow: turns the standard error of a failed git process into the text
that Flux would show, git's own line as detail, and a hint. Pure. Source: the
recordings (`source-errors`, `git-references`); fluxcd/pkg git and go-git's errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "not-found", "authentication", "forbidden", "host-key", "tls", "network", "refused-id", "other"
]

_DETAIL_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed git process, understood.

    Args:
        kind: what sort of failure it is.
        words: Flux's text, without the operation and URL in front.
        detail: git's own words, one line; not yet cleaned of secrets.
        hint: what to do about it.
    """

    kind: Kind
    words: str
    detail: str = ""
    hint: str = ""


_RULES: tuple[tuple[str, Kind, str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "host-key",
        "ssh: handshake failed: knownhosts: key mismatch",
        "known_hosts in the Secret names another key than the server's; check the server, then update it",
    ),
    (
        r"host key is known for|Host key verification failed",
        "host-key",
        "ssh: handshake failed: knownhosts: key is unknown",
        "put the server's host key into known_hosts of the Secret (ssh-keyscan HOST)",
    ),
    (
        r"incorrect passphrase|error in libcrypto|invalid format|Load key ",
        "authentication",
        "ssh: handshake failed: ssh: unable to authenticate, the private key cannot be read",
        "check identity and password (the key's passphrase) in the Secret",
    ),
    (
        r"Permission denied \(|Too many authentication failures",
        "authentication",
        "ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey], "
        "no supported methods remain",
        "add the public half of the key as a deploy key of the repository; check the key's passphrase",
    ),
    (
        r"CONNECT tunnel failed|from proxy after CONNECT|[Rr]esolve proxy|proxy CONNECT aborted",
        "network",
        "proxyconnect: the proxy refused or could not be reached",
        "check the proxy's address and credentials",
    ),
    (
        r"returned error: 407",
        "network",
        "Proxy Authentication Required",
        "check username and password in the proxy's Secret",
    ),
    (
        r"Authentication failed|could not read (Username|Password)|returned error: 401",
        "authentication",
        "authentication required: ",
        "check the credentials in the Secret that spec.secretRef names",
    ),
    (
        r"returned error: 403",
        "forbidden",
        "authorization failed: ",
        "the credentials are valid but may not read this repository",
    ),
    (
        r"returned error: 404|repository '.*' not found|does not appear to be a git repository"
        r"|Repository not found|project you were looking for could not be found",
        "not-found",
        "repository not found: ",
        "check spec.url; private repositories also look like this without credentials",
    ),
    (
        r"[Cc]ould not resolve host",
        "network",
        "dial tcp: lookup: no such host",
        "check the host in spec.url and the cluster's DNS",
    ),
    (
        r"Connection refused|Failed to connect to|Couldn't connect to server",
        "network",
        "dial tcp: connect: connection refused",
        "the server does not listen there, or a network policy is in the way",
    ),
    (
        r"certificate required|alert handshake failure|bad certificate",
        "tls",
        "remote error: tls: certificate required",
        "the server asks for a client certificate: tls.crt and tls.key in the Secret",
    ),
    (
        r"certificate verif|SSL certificate problem|unable to get local issuer|certificate subject name"
        r"|does not match target host",
        "tls",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "put the server's authority into ca.crt of the Secret",
    ),
    (
        r"timed out|Operation too slow",
        "network",
        "context deadline exceeded",
        "raise spec.timeout if the server is just slow",
    ),
    (
        r"not our ref|unadvertised object|couldn't find remote ref|remote did not send all necessary objects",
        "refused-id",
        "object not found",
        "",
    ),
)
_COMPILED = tuple((re.compile(pattern), kind, words, hint) for pattern, kind, words, hint in _RULES)
# What stands under or around the cause and says nothing of it.
_EMPTY_WORDS = ("fatal: Could not read from remote", "Please make sure you have", "and the repository", "@")
_STATUS = re.compile(r"returned error: (\d{3})")
_REMOTE = re.compile(r"^remote: ?(.*)$", re.MULTILINE)


def understand(stderr: str, url: str) -> Failure:
    """Say what a failed git process's words mean.

    Args:
        stderr: its standard error.
        url: the remote's URL, for messages that name it.
    """
    detail = _own_words(stderr)
    for pattern, kind, words, hint in _COMPILED:
        if pattern.search(stderr):
            if words.endswith(": "):
                # Flux shows what the server said behind these.
                words += " ".join(line.strip() for line in _REMOTE.findall(stderr)).strip()[:_DETAIL_LIMIT]
            return Failure(kind, words, detail, hint)
    status = _STATUS.search(stderr)
    if status:
        asked = f"{url}/info/refs?service=git-upload-pack"
        words = f'unexpected client error: unexpected requesting "{asked}" status code: {status.group(1)}'
        return Failure("other", words, detail)
    return Failure("other", detail or "git failed without a word")


# Lines that are true of git's workings and mislead about the cause.
_MISLEADING = ("terminal prompts disabled", "SOMETHING NASTY", "@@@@", "could not read Username")
# Lines that name the cause where ssh or the server says much else.
_TELLING = (
    "Authentication failed",
    "host key is known",
    "has changed and you",
    "Permission denied",
    "remote: ",
)


def _own_words(stderr: str) -> str:
    """Choose git's most telling line."""
    lines = [line.strip() for line in stderr.splitlines()]
    lines = [line for line in lines if line and not line.startswith(_EMPTY_WORDS)]
    lines = [line for line in lines if not any(words in line for words in _MISLEADING)]
    telling = [line for line in lines if any(words in line for words in _TELLING)]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    chosen = telling or fatal or lines
    return chosen[0][:_DETAIL_LIMIT] if chosen else ""
