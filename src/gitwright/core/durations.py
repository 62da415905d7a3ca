"""Durations as Go writes and reads them, such as `1m30s`.

Source: Go time.ParseDuration and Duration.String; Flux's pattern in spec/flux-v2.md 3.
"""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|ms|s|m|h)")


def parse(text: str) -> float:
    """Read a Go duration as seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    total, position = 0.0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None:
            raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m")
        total += float(part.group(1)) * _UNITS[part.group(2)]
        position = part.end()
    if not rest:
        raise ValueError("the duration is empty")
    return sign * total


def show(seconds: float) -> str:
    """Write seconds as Go's Duration.String does: `1h0m0s`, `1.5s`, `20ms`, `0s`."""
    if seconds < 0:
        return "-" + show(-seconds)
    nanoseconds = round(seconds * 1e9)
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("\u00b5s", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return _decimal(nanoseconds, size) + unit
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, 1_000_000_000) + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, size: int) -> str:
    whole, part = divmod(value, size)
    if not part:
        return str(whole)
    return f"{whole}.{str(part).zfill(len(str(size)) - 1).rstrip('0')}"
