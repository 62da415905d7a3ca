"""Kubernetes Events about our objects, recorded as Flux's controllers record theirs.

Role in the flow: `conclude` makes `Note` values, the `Recorder` writes them in order,
one request each; a repeated note counts up the Event that is there. It never fails a
run: an Event that cannot be written is logged and dropped.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from gitwright.api import meta
from gitwright.core.errors import GitwrightError
from gitwright.core.objects import GVK, JSON
from gitwright.kube.client import Client
from gitwright.observe.redact import Redactor

EVENT = GVK("", "v1", "Event")
LIMIT = 39_000
REMEMBERED = 4096


class Log(Protocol):
    """The part of a logger that the recorder needs."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Write one line."""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing worth telling about an object.

    Args:
        kind: `Normal` or `Warning`.
        reason: one word in CamelCase.
        message: for people.
        annotations: metadata of the Event, such as the revision.
    """

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Written:
    name: str
    count: int


class Recorder:
    """Writes Events in the order they are given.

    Args:
        client: writes as the engine.
        component: the reporting controller, such as `kustomize-controller`.
        instance: name of this process, for `reportingInstance`.
        redactor: cleans every message.
        log: told of Events that could not be written.
        clock: gives the time in UTC.
        monotonic: seconds that never go back.
        suffix: gives a fresh unique suffix for a name.
        burst: events about one object that may be written at once.
        refill: seconds after which one more may be.
    """

    def __init__(
        self,
        client: Client,
        *,
        component: str,
        instance: str,
        redactor: Redactor,
        log: Log,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        suffix: Callable[[], str],
        burst: int = 25,
        refill: float = 300.0,
    ) -> None:
        self._client = client
        self._component = component
        self._instance = instance
        self._redactor = redactor
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._suffix = suffix
        self._burst = burst
        self._refill = refill
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._queue: asyncio.Queue[tuple[JSON, Note]] = asyncio.Queue(maxsize=10_000)
        self._written: OrderedDict[tuple[str, str, str, str], _Written] = OrderedDict()

    def emit(self, obj: JSON, *notes: Note) -> None:
        """Record notes about an object; returns at once.

        Args:
            obj: the object, at least apiVersion, kind and metadata.
            notes: what to tell, in order.
        """
        for note in notes:
            try:
                self._queue.put_nowait((obj, note))
            except asyncio.QueueFull:
                self._log.warning("event dropped, too many wait", reason=note.reason)

    async def run(self) -> None:
        """Write what is given until cancelled."""
        while True:
            await self._one(*await self._queue.get())

    async def drain(self, patience: float = 5.0) -> None:
        """Write what is left after `run` has ended, for at most `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                while not self._queue.empty():
                    await self._one(*self._queue.get_nowait())
        except TimeoutError:
            self._log.warning("events left unwritten", count=self._queue.qsize())

    async def _one(self, obj: JSON, note: Note) -> None:
        if not self._allowed(str(obj["metadata"].get("uid") or "")):
            self._log.warning("event dropped, too many about one object", reason=note.reason)
            return
        try:
            await self._write(obj, note)
        except GitwrightError as error:
            self._log.warning("event not written", reason=note.reason, error=error.message)

    def _allowed(self, uid: str) -> bool:
        """Take one from the object's budget of events, as Kubernetes' own recorder does."""
        now = self._monotonic()
        left, since = self._budgets.pop(uid, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) / self._refill)
        self._budgets[uid] = (left - 1 if left >= 1 else left, now)
        while len(self._budgets) > REMEMBERED:
            self._budgets.popitem(last=False)
        return left >= 1

    async def _write(self, obj: JSON, note: Note) -> None:
        metadata = obj["metadata"]
        message = self._redactor.clean(note.message)[:LIMIT]
        same = (str(metadata.get("uid") or ""), note.kind, note.reason, message)
        now = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        written = self._written.get(same)
        if written is not None:
            self._written.move_to_end(same)
            written.count += 1
            body = {
                "count": written.count,
                "lastTimestamp": now,
                "metadata": {"annotations": self._annotations(obj, note)},
            }
            try:
                await self._client.patch(
                    EVENT,
                    written.name,
                    str(metadata["namespace"]),
                    body,
                    kind="merge",
                    field_manager=self._component,
                )
            except GitwrightError:
                # Events expire; the next one begins to count anew.
                del self._written[same]
            else:
                return
        event = self._event(obj, note, message, now)
        await self._client.create(event, field_manager=self._component)
        self._written[same] = _Written(event["metadata"]["name"], 1)
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _annotations(self, obj: JSON, note: Note) -> dict[str, str]:
        own = (obj["metadata"].get("annotations") or {}).items()
        return {
            **note.annotations,
            **{name: str(value) for name, value in own if name.startswith(meta.EVENT_PREFIX)},
        }

    def _event(self, obj: JSON, note: Note, message: str, now: str) -> JSON:
        metadata = obj["metadata"]
        about = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        meta: JSON = {
            "name": f"{metadata['name'][:230]}.{self._suffix()}",
            "namespace": metadata["namespace"],
        }
        annotations = self._annotations(obj, note)
        if annotations:
            meta["annotations"] = annotations
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": meta,
            "involvedObject": about,
            "reason": note.reason,
            "message": message,
            "type": note.kind,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
