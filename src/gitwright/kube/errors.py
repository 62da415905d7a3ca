"""Errors of the Kubernetes API, made of the Status objects that it answers.

    ApiError
    |-- NotFound           404; `NoKindMatch` where the whole kind is unknown
    |-- AlreadyExists      409, reason AlreadyExists
    |-- Conflict           409 (Transient)
    |-- Invalid            422
    |-- Forbidden          403 (Denied)
    |-- Unauthorized       401 (Denied)
    |-- Gone               410 (Transient): list again
    |-- TooMany            429 (Transient)
    |-- ServerError        5xx (Transient)
    `-- Unreachable        no answer at all (Transient)

The message is the server's own, verbatim, because Flux shows it so. No header and
no body of a request enters it, and of an answer only what a Status object says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitwright.core.errors import Denied, GitwrightError, Transient
from gitwright.core.objects import GVK

# Source: spec/flux-v2.md 3.3 item 9.
_IMMUTABLE = re.compile(r"is\simmutable|immutable\sfield")

# What client-go says when a server gives a code and no Status object.
# Source: k8s.io/apimachinery api/errors NewGenericServerResponse.
_GENERIC: dict[int, tuple[str, str]] = {
    400: ("BadRequest", "the server rejected our request for an unknown reason"),
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    403: ("Forbidden", "unknown"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    406: ("NotAcceptable", "the server was unable to respond with a content type that the client supports"),
    409: ("Conflict", "the server reported a conflict"),
    410: ("Expired", "the requested resource version or continue token is too old"),
    415: ("UnsupportedMediaType", "unknown"),
    422: ("Invalid", "the server rejected our request due to an error in our request"),
    429: (
        "TooManyRequests",
        "the server has received too many requests and has asked us to try again later",
    ),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: (
        "Timeout",
        "the server was unable to return a response in the time allotted, "
        "but may still be processing the request",
    ),
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a refusal: the field it is about, the server's words, the kind of fault."""

    field: str
    message: str
    reason: str


class ApiError(GitwrightError):
    """The API server refused a request.

    Args:
        message: the server's message, verbatim.
        status: the HTTP code; 0 when there was no answer.
        api_reason: the Status reason, such as `NotFound`, `Invalid`, `Conflict`.
        causes: what the server names as causes, with their fields.
        retry_after: seconds the server asks to wait, or None.
        hint: what to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        api_reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, retry_after=retry_after, hint=hint)
        self.status = status
        self.api_reason = api_reason
        self.causes = causes

    @property
    def is_immutable(self) -> bool:
        """Whether Flux takes the error for a change of an immutable field.

        Source: spec/flux-v2.md 3.3 item 9: any Conflict, any Invalid, or the words.
        """
        if isinstance(self, (Conflict, Invalid)):
            return True
        return _IMMUTABLE.search(self.message) is not None


class NotFound(ApiError):
    """The object does not exist."""


class NoKindMatch(NotFound):
    """The server does not know the kind, so no object of it exists either."""

    def __init__(self, gvk: GVK) -> None:
        super().__init__(
            f'no matches for kind "{gvk.kind}" in version "{gvk.api_version}"',
            status=404,
            api_reason="NotFound",
        )
        self.gvk = gvk


class AlreadyExists(ApiError):
    """An object of this name is there already."""


class Conflict(ApiError, Transient):
    """The object changed since it was read, or a field belongs to another manager."""


class Invalid(ApiError):
    """The object breaks its schema or a rule; `causes` name the fields."""


class Forbidden(ApiError, Denied):
    """The identity used may not do this."""


class Unauthorized(ApiError, Denied):
    """The credentials are missing, wrong or expired."""


class Gone(ApiError, Transient):
    """The resource version or continue token is too old; list again."""


class TooMany(ApiError, Transient):
    """The server is busy and asks to wait."""


class ServerError(ApiError, Transient):
    """The server failed."""


class Unreachable(ApiError, Transient):
    """No answer: the connection was refused, cut or timed out.

    Args:
        message: what was asked of whom, and why it failed.
        hint: what to do about it.
        unsent: the server cannot have received the request.
    """

    def __init__(self, message: str, *, hint: str = "", unsent: bool = False) -> None:
        super().__init__(message, api_reason="Unreachable", hint=hint)
        self.unsent = unsent


_BY_CODE: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooMany,
}


def from_status(status: Mapping[str, Any], code: int = 0, retry_after: float | None = None) -> ApiError:
    """Make the error that a Status object describes.

    Args:
        status: an object of kind Status.
        code: the HTTP code, used where the object names none.
        retry_after: seconds from the Retry-After header; else the object's own.
    """
    number = int(status.get("code") or code)
    reason = str(status.get("reason") or "")
    details = status.get("details") or {}
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    kind = _BY_CODE.get(number, ServerError if number >= 500 else ApiError)
    if number == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    causes = tuple(
        Cause(str(cause.get("field") or ""), str(cause.get("message") or ""), str(cause.get("reason") or ""))
        for cause in details.get("causes") or ()
    )
    message = str(status.get("message") or _GENERIC.get(number, ("", ""))[1] or "unknown")
    return kind(message, status=number, api_reason=reason, causes=causes, retry_after=retry_after)


def from_code(
    code: int, verb: str, resource: str = "", name: str = "", retry_after: float | None = None
) -> ApiError:
    """Make the error of an answer that carries no Status object, in client-go's words.

    Args:
        code: the HTTP code.
        verb: the HTTP method.
        resource: plural and group, such as `widgets.example.com`, or empty.
        name: the object's name, or empty.
        retry_after: seconds from the Retry-After header.
    """
    reason, message = _GENERIC.get(code, ("", ""))
    if not message:
        reason = "InternalError" if code >= 500 else "Unknown"
        message = (
            'an error on the server ("unknown") has prevented the request from succeeding'
            if code >= 500
            else f"the server responded with the status code {code} but did not return more information"
        )
    if code == 409 and verb == "POST":
        reason = "AlreadyExists"
    if resource:
        about = " ".join(part for part in (verb.lower(), resource, name) if part)
        message = f"{message} ({about})"
    return from_status({"code": code, "reason": reason, "message": message}, code, retry_after)
