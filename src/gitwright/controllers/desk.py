"""What reconcilers need of the world around them: our own objects, events, clocks.

Role in the flow: reads our kinds from the watches, writes status and finalizers with
Flux's field managers, and hands events to the recorders. An answer of the server is
known here before the watch has it, so that no run acts on a status that it wrote itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gitwright.api import meta
from gitwright.artifact.store import Artifact, Store
from gitwright.controllers.conclude import status_patch
from gitwright.core.errors import GitwrightError, Waiting
from gitwright.core.objects import GVK, JSON, gvk_of
from gitwright.kube.client import Client
from gitwright.kube.errors import Conflict, NotFound
from gitwright.kube.informer import Change, Informer
from gitwright.notify.events import Note, Recorder
from gitwright.observe import logging
from gitwright.observe.redact import Redactor

# Seconds between two runs of an object that only its interval asks for.
LEAST = 1.0
# Of a change of finalizers, which is bound to a resource version.
TRIES = 5


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time and chance, as arguments.

    Args:
        monotonic: seconds that never go back.
        wall: the time in UTC.
        jitter: spreads a number of seconds.
    """

    monotonic: Callable[[], float]
    wall: Callable[[], datetime]
    jitter: Callable[[float], float]


def keep(obj: JSON) -> JSON:
    """Reduce an object of ours to what is kept: everything but managedFields."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


class Desk:
    """The desk of all reconcilers.

    Args:
        client: reads and writes our own kinds as the engine.
        store: the artifacts.
        recorders: writes Events, by kind.
        again: asks for another run: kind, namespace, name, seconds from now.
        clocks: see `Clocks`.
        redactor: cleans what goes into a status.
        log: where runs are told.
    """

    def __init__(
        self,
        client: Client,
        *,
        store: Store,
        recorders: dict[GVK, Recorder],
        again: Callable[[GVK, str, str, float], None],
        clocks: Clocks,
        redactor: Redactor,
        log: logging.Log,
    ) -> None:
        self._client = client
        self._store = store
        self._recorders = recorders
        self.again = again
        self._clocks = clocks
        self.redactor = redactor
        self._log = log
        self._informers: dict[GVK, Informer[JSON]] = {}
        self._newer: dict[tuple[GVK, str, str], JSON] = {}

    def attach(self, gvk: GVK, informer: Informer[JSON]) -> None:
        """Read a kind from this informer."""
        self._informers[gvk] = informer
        informer.subscribe(lambda change: self._caught_up(gvk, change))

    def _caught_up(self, gvk: GVK, change: Change[JSON]) -> None:
        slot = (gvk, change.namespace, change.name)
        ahead = self._newer.get(slot)
        if ahead is not None and (change.new is None or _version(change.new) >= _version(ahead)):
            del self._newer[slot]

    def find(self, gvk: GVK, namespace: str, name: str) -> JSON | None:
        """Give the newest known state of an object of ours, or None."""
        informer = self._informers.get(gvk)
        shown = informer.get(namespace, name) if informer else None
        ahead = self._newer.get((gvk, namespace, name))
        if ahead is not None and shown is not None and _version(ahead) > _version(shown):
            return ahead
        return shown

    def all_of(self, gvk: GVK) -> list[JSON]:
        """Give all objects of a kind as the watch has them."""
        informer = self._informers.get(gvk)
        return informer.items() if informer else []

    async def artifact(self, kind: str, namespace: str, name: str) -> Artifact | None:
        """Give the artifact of a source, or None when it is not stored here (any more)."""
        return self._store.current(kind, namespace, name) or await self._store.open(kind, namespace, name)

    async def write_status(self, obj: JSON, status: JSON, manager: str) -> JSON:
        """Write what changed of a status; gives the object with that status.

        Spec, generation and annotations stay those that the run began with: what came since
        is for the next run, and must not be called done by this one. Nothing is sent when
        nothing changed. An object that is gone is left alone.
        """
        patch = status_patch(obj.get("status"), self._clean(status))
        if patch is None:
            return obj
        try:
            answer = await self._patch(obj, {"status": patch}, manager, subresource="status")
        except NotFound:
            return obj
        return _renewed(obj, answer)

    async def add_finalizer(self, gvk: GVK, obj: JSON, manager: str) -> JSON:
        """Put Flux's finalizer on an object; gives the object with it.

        Raises:
            Conflict: others keep changing it.
            ApiError: refused otherwise.
        """
        return await self._finalizers(gvk, obj, manager, wanted=True)

    async def remove_finalizer(self, gvk: GVK, obj: JSON, manager: str) -> None:
        """Take Flux's finalizer off an object, which lets it go.

        Raises:
            Conflict: others keep changing it.
            ApiError: refused otherwise.
        """
        await self._finalizers(gvk, obj, manager, wanted=False)

    async def _finalizers(self, gvk: GVK, obj: JSON, manager: str, *, wanted: bool) -> JSON:
        """Set or remove our finalizer; on what is there now, where somebody changed it meanwhile."""
        found, metadata = obj, obj["metadata"]
        for attempt in range(1, TRIES + 1):
            names = [name for name in found["metadata"].get("finalizers") or [] if name != meta.FINALIZER]
            names += [meta.FINALIZER] if wanted else []
            version = found["metadata"]["resourceVersion"]
            # The resource version keeps a finalizer that somebody else adds at this moment.
            body = {"metadata": {"finalizers": names, "resourceVersion": version}}
            try:
                return _renewed(obj, await self._patch(found, body, manager))
            except NotFound:
                return obj
            except Conflict:
                if attempt == TRIES:
                    raise
            try:
                found = await self._client.get(gvk, metadata["name"], metadata["namespace"])
            except NotFound:
                return obj
            if found["metadata"].get("uid") != metadata.get("uid"):
                return obj
            if wanted and found["metadata"].get("deletionTimestamp"):
                # The API server takes no new finalizer then; the next run sees the deletion.
                return obj
        raise AssertionError("the last attempt returns or raises")

    async def _patch(self, obj: JSON, body: JSON, manager: str, subresource: str = "") -> JSON:
        gvk, metadata = gvk_of(obj), obj["metadata"]
        namespace, name = str(metadata["namespace"]), str(metadata["name"])
        new = keep(
            await self._client.patch(
                gvk, name, namespace, body, kind="merge", field_manager=manager, subresource=subresource
            )
        )
        informer = self._informers.get(gvk)
        shown = informer.get(namespace, name) if informer else None
        # Of an object that the watch has already seen the end of, nothing is kept.
        if shown is not None and _version(shown) < _version(new):
            self._newer[(gvk, namespace, name)] = new
        return new

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redactor.clean(value)
        if isinstance(value, dict):
            # Names and revisions are not secrets; only what is worded for people is cleaned.
            return {
                name: self._clean(item) if name in ("conditions", "message") else item
                for name, item in value.items()
            }
        return [self._clean(item) for item in value] if isinstance(value, list) else value

    def tell(self, obj: JSON, *notes: Note) -> None:
        """Record events about an object."""
        recorder = self._recorders.get(gvk_of(obj))
        if recorder is not None:
            recorder.emit(obj, *notes)

    def log_outcome(self, obj: JSON, revision: str, error: GitwrightError | None, seconds: float) -> None:
        """Write the one line that each run leaves in the log."""
        log = self._log_of(obj, revision)
        if error is None:
            log.info("reconciled", seconds=round(seconds, 3))
        elif isinstance(error, Waiting):
            log.info("waits", reason=error.reason, error=str(error))
        else:
            log.warning("not reconciled", reason=error.reason, error=str(error), seconds=round(seconds, 3))

    def log_repair(self, obj: JSON, revision: str, lines: Sequence[str]) -> None:
        """Write the line that a repair of drift leaves in the log."""
        self._log_of(obj, revision).info("repaired drift", objects=list(lines))

    def _log_of(self, obj: JSON, revision: str) -> logging.Log:
        metadata = obj["metadata"]
        namespace, name = str(metadata["namespace"]), str(metadata["name"])
        group = gvk_of(obj).group
        return logging.for_object(self._log, str(obj["kind"]), namespace, name, group, revision=revision)

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return self._clocks.monotonic()

    def now(self) -> str:
        """Give the time as Kubernetes writes it: RFC 3339, UTC, to the second."""
        return self._clocks.wall().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def later(self, seconds: float | None, *, spread: bool) -> float | None:
        """Say in how many seconds to come back by the interval that an object asks for.

        Args:
            seconds: as asked; None and nothing at all mean never, as in Flux.
            spread: so that objects of one interval do not come together.
        """
        # Flux rounds to nanoseconds.
        if seconds is None or seconds < 1e-9:
            return None
        # One object that asks to run all the time must not keep the others from running (S13).
        return max(LEAST, self._clocks.jitter(seconds) if spread else seconds)


def _version(obj: JSON) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)


def _renewed(obj: JSON, answer: JSON) -> JSON:
    """Give an object with the status, finalizers and resource version of an answer about it."""
    metadata = dict(obj["metadata"])
    for name in ("finalizers", "resourceVersion"):
        metadata.pop(name, None)
        if name in answer["metadata"]:
            metadata[name] = answer["metadata"][name]
    found = {**obj, "metadata": metadata}
    found.pop("status", None)
    return {**found, "status": answer["status"]} if "status" in answer else found
