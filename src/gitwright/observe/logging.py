"""Structured logs: one line per event, as JSON or as text, after redaction.

Role in the flow: the only way log lines leave the process. The field names are
those of Flux's controllers, so `flux logs` and dashboards read them. It must not
know what is logged. Source: spec/flux-v2.md section 8; spec/security.md S17.
"""

from __future__ import annotations

import json
import logging as stdlib
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from gitwright.observe.redact import Redactor

Log = FilteringBoundLogger
Format = Literal["json", "text"]

LEVELS: Mapping[str, int] = {"trace": 10, "debug": 10, "info": 20, "warning": 30, "error": 40}

_LONGEST = 32_768
_DEEPEST = 8
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BARE = re.compile(r"[^\s\"=\\]+\Z")


def configure(
    level: str,
    format: Format,
    stream: TextIO,
    redactor: Redactor,
    now: Callable[[], float] = time.time,
) -> None:
    """Set up logging for the process; calling it again replaces what was set.

    Lines of libraries that use the standard library's logging take the same way.

    Args:
        level: `trace`, `debug`, `info`, `warning` or `error`.
        format: `json` for machines, `text` for terminals.
        stream: where lines go, normally standard error.
        redactor: cleans every string of every line.
        now: the time of day in seconds since 1970.

    Raises:
        ValueError: the level is unknown.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    render = _render_json if format == "json" else _render_text
    structlog.configure(
        processors=[_Line(redactor, now), render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Factory(stream),
        cache_logger_on_first_use=False,
    )
    root = stdlib.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Bridge)]
    root.addHandler(_Bridge())
    # Libraries tell at info what only their own authors want to know.
    root.setLevel(max(LEVELS[level], stdlib.WARNING))


def get(name: str) -> Log:
    """Give the logger of a name; it follows whatever `configure` sets, then and later."""
    return cast(Log, structlog.get_logger(logger_name=name))


def for_object(log: Log, kind: str, namespace: str, name: str, group: str = "", **more: str) -> Log:
    """Bind the fields that name an object, as Flux's controllers do.

    Args:
        log: the logger to start from.
        kind: the object's kind, such as `Kustomization`; empty if it is of none.
        namespace: its namespace; empty for cluster-scoped ones.
        name: its name.
        group: its API group.
        more: further fields, such as `revision`.
    """
    fields: dict[str, Any] = {}
    if kind:
        fields = {"controllerKind": kind, kind: {"name": name, "namespace": namespace}}
    if group:
        fields["controllerGroup"] = group
    return log.bind(**fields, namespace=namespace, name=name, **more)


class _Line:
    """The processor that gives a line its fixed fields and cleans all of it."""

    def __init__(self, redactor: Redactor, now: Callable[[], float]) -> None:
        self._redactor = redactor
        self._now = now

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        line: dict[str, Any] = {
            "ts": _timestamp(self._now()),
            "level": "error" if method in ("exception", "critical") else method,
            "logger": event.pop("logger_name", ""),
            "msg": event.pop("event", ""),
        }
        failure = _failure(event.pop("exc_info", None))
        if failure is not None:
            line["error"] = str(failure) or type(failure).__name__
        line.update(event)
        if failure is not None:
            line["stacktrace"] = "".join(traceback.format_exception(failure))
        return cast(EventDict, self._clean(line, 0))

    def _clean(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping) and depth < _DEEPEST:
            # The names of a line's own fields are ours; below them, names are data too.
            return {
                self._text(str(key)) if depth else str(key): self._clean(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
            return [self._clean(item, depth + 1) for item in value]
        return self._text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))

    def _text(self, text: str) -> str:
        cleaned = self._redactor.clean(text)
        if not cleaned.isascii():
            # File names that are no UTF-8 have no place in a line that must be.
            cleaned = cleaned.encode("utf-8", "replace").decode()
        if len(cleaned) > _LONGEST:
            return f"{cleaned[:_LONGEST]}... ({len(cleaned) - _LONGEST} more characters)"
        return cleaned


class _Factory:
    """Makes the loggers that write to one stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *_: object) -> _Writer:
        return _Writer(self._stream)


class _Writer:
    """Writes finished lines; a stream that is gone must not stop the engine."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write one line at once."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = msg = log = write


class _Bridge(stdlib.Handler):
    """Hands lines of the standard library's logging over to ours."""

    def emit(self, record: stdlib.LogRecord) -> None:
        """Write a record with its level, name, text and exception."""
        log = get(record.name)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        level = min((known for known in (10, 20, 30, 40) if known >= record.levelno), default=40)
        exception = record.exc_info[1] if record.exc_info else None
        if exception is None:
            log.log(level, message)
        else:
            log.log(level, message, exc_info=exception)


def _failure(given: Any) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return cast(BaseException | None, given[1])
    if given:
        return sys.exception()
    return None


def _timestamp(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:
        # Numbers past 64 bits; a log line must never raise.
        return json.dumps(event, default=str)


def _render_text(_: WrappedLogger, __: str, event: EventDict) -> str:
    stack = event.pop("stacktrace", "")
    start = f"{event.pop('ts')} {str(event.pop('level')).upper():<7} {_plain(str(event.pop('msg')))}"
    logger = event.pop("logger")
    start += _object(event)
    fields = [f"{_plain(key)}={_show(value)}" for key, value in event.items()]
    line = " ".join([start, *fields, *([f"logger={logger}"] if logger else [])])
    return f"{line}\n    {_plain(str(stack).rstrip())}" if stack else line


def _object(event: EventDict) -> str:
    """Take the fields that name an object out of a line, and give them as people read them."""
    kind = event.pop("controllerKind", "")
    if not kind:
        return ""
    event.pop("controllerGroup", None)
    event.pop(kind, None)
    parts = (str(kind), str(event.pop("namespace", "")), str(event.pop("name", "")))
    return f" {_plain('/'.join(part for part in parts if part))}"


def _plain(text: str) -> str:
    """Show control characters instead of sending them to the terminal; indent what follows the first line."""
    shown = _CONTROL.sub(lambda match: repr(match.group())[1:-1], text).replace("\n", "\n    ")
    return shown.encode("utf-8", "replace").decode()


def _show(value: Any) -> str:
    if isinstance(value, dict | list):
        return _plain(json.dumps(value, default=str, ensure_ascii=False))
    text = str(value)
    return text if _BARE.match(text) and text.isprintable() else json.dumps(text, ensure_ascii=True)
