"""The one place where impersonation headers are made.

Role in the flow: `client` puts what this gives on every request of a tenant. A blank
identity is an error and never means "ourselves". Pure. Source: spec/security.md S26.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from gitwright.core.errors import Denied

Headers = tuple[tuple[str, str], ...]

# Characters of a header name, besides letters and digits, that need no escape.
_NAME = "!#$&'*+-.^_`|~"


def headers(
    user: str,
    groups: Iterable[str] = (),
    *,
    uid: str = "",
    extra: Iterable[tuple[str, Iterable[str]]] = (),
) -> Headers:
    """Build the headers that make the API server act as somebody else.

    Args:
        user: the user, such as `system:serviceaccount:apps:deployer`.
        groups: the groups; empty leaves them to the server.
        uid: the user's uid, or empty.
        extra: further attributes and their values.

    Raises:
        Denied: the user or a group is blank, or holds what a header cannot carry unchanged.
    """
    pairs = [("Impersonate-User", _checked("user", user))]
    pairs += [("Impersonate-Group", _checked("group", group)) for group in groups]
    if uid:
        pairs.append(("Impersonate-Uid", _checked("uid", uid)))
    for key, values in extra:
        name = f"Impersonate-Extra-{quote(_checked('attribute', key), safe=_NAME)}"
        pairs += [(name, _checked("attribute", value)) for value in values]
    return tuple(pairs)


def _checked(what: str, value: str) -> str:
    if not value.strip():
        raise Denied(f"the {what} to impersonate is blank", reason="ImpersonationDenied")
    # Spaces at the ends are cut off on the way, so that it would be another identity.
    if value != value.strip() or not value.isprintable():
        raise Denied(
            f"the {what} to impersonate has characters that are not allowed", reason="ImpersonationDenied"
        )
    return value
