"""Reading a watch: lines out of pieces, events out of lines.

Role in the flow: between the connection and `Client.watch`. It must not know kinds.
Source: Kubernetes documentation "API concepts", watch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal

import orjson

from gitwright.core.objects import JSON
from gitwright.kube.errors import ApiError, from_status

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch; of a `BOOKMARK`'s object only the resource version means something."""

    type: EventType
    object: JSON


async def lines(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Cut a stream into lines of any length; what follows the last line end is dropped.

    Args:
        pieces: the stream, cut anywhere.
    """
    parts: list[bytes] = []
    async for piece in pieces:
        end = piece.rfind(b"\n")
        if end < 0:
            parts.append(piece)
            continue
        whole = b"".join((*parts, piece[:end]))
        parts = [piece[end + 1 :]]
        for line in whole.split(b"\n"):
            if line:
                yield line


def watch_event(line: bytes) -> WatchEvent:
    """Read one line of a watch.

    Raises:
        ApiError: the line is an error of the server's, such as `Gone`, or cannot be read.
    """
    try:
        event = orjson.loads(line)
        kind, obj = event["type"], event["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ApiError("the server sent a watch event that cannot be read") from None
    if kind == "ERROR":
        raise from_status(obj)
    return WatchEvent(kind, obj)
