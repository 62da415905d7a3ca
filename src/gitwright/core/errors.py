"""The one exception tree.

    GitwrightError
    |-- Waiting      nothing is wrong here; something else must happen first
    |-- Transient    may succeed when tried again
    |-- Stalled      a person must change the object, the repository or a setting
    `-- Denied       the identity used may not do this, or policy forbids it

Reconcilers raise; `controllers.conclude` turns what was raised into conditions,
a requeue and an event. An error is worded once, here: first Flux's message where
Flux has one, then what we know besides, then a hint. No secret may enter a message.
"""

from __future__ import annotations


class GitwrightError(Exception):
    """Base of all errors that a user may see.

    Args:
        message: what happened; where Flux has a message for it, exactly that.
        reason: the condition reason, such as `BuildFailed`.
        subject: the object it is about, `Kind/namespace/name`, or empty.
        place: field path, or file and line, or empty.
        detail: what we know beyond `message`; follows it on a line of its own.
        hint: what to do about it, one sentence.
        retry_after: seconds until it is worth trying again; None leaves it to the caller.
    """

    reason = "Failed"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        subject: str = "",
        place: str = "",
        detail: str = "",
        hint: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.subject = subject
        self.place = place
        self.detail = detail
        self.hint = hint
        self.retry_after = retry_after

    def __str__(self) -> str:
        """The whole text: message, place and detail, hint."""
        lines = [": ".join(part for part in (self.place, self.detail) if part)]
        lines.append(f"hint: {self.hint}" if self.hint else "")
        more = [line for line in lines if line]
        # Flux ends some messages with a newline; it is kept, since people match on the text.
        return "\n".join([self.message.rstrip("\n"), *more]) if more else self.message


class Waiting(GitwrightError):
    """Something else must happen first, and a watch will tell when it did."""

    reason = "DependencyNotReady"


class Transient(GitwrightError):
    """Trying again may help: a network fault, a conflict, a server that is busy."""

    reason = "ReconciliationFailed"


class Stalled(GitwrightError):
    """Trying again cannot help until a person changes something."""

    reason = "Stalled"


class Denied(GitwrightError):
    """The identity used may not do this, or policy forbids it."""

    reason = "AccessDenied"
