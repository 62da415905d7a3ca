"""Informers: a list and a watch of one kind, kept as projections.

Role in the flow: everything that reacts to the cluster subscribes here. An informer
keeps what `project` makes of each object and drops the object itself. It must not
know what the projections mean.

What it promises: handlers see every object once as `added`, then each change they
could not have missed in between, also over broken connections, expired versions
(410) and kinds that come and go. Source: design.md section 4; Kubernetes
documentation "Efficient detection of changes"; k8s.io/client-go tools/cache.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from gitwright.core.errors import GitwrightError
from gitwright.core.objects import GVK, JSON
from gitwright.kube.client import Client, WatchEvent
from gitwright.kube.errors import ApiError, Forbidden, Gone, NotFound, Unreachable
from gitwright.observe import logging

P = TypeVar("P")
Key = tuple[str, str]

# Seconds: the first wait after a failure, the longest, and the longest for a server
# that does not answer, which mostly is one that restarts.
_FIRST = 0.2
_LONGEST = 30.0
_LONGEST_UNREACHABLE = 3.0
# A watch lasts between these seconds, so that those begun together do not end so.
_WATCH_LEAST, _WATCH_SPREAD = 300, 300
# A watch that ends sooner than this, without an event, counts as a failure.
_SHORT = 1.0
# Events handled without giving other tasks a turn.
_BURST = 50


@dataclass(frozen=True, slots=True)
class Change(Generic[P]):
    """One change, as told to handlers.

    Args:
        kind: what happened.
        namespace: of the object; empty for cluster-scoped ones.
        name: of the object.
        old: the projection before, None when added.
        new: the projection after, None when deleted.
    """

    kind: Literal["added", "modified", "deleted"]
    namespace: str
    name: str
    old: P | None
    new: P | None


Handler = Callable[[Change[P]], None]


@dataclass(frozen=True, slots=True)
class _Kept(Generic[P]):
    version: str
    uid: str
    value: P


class _Index(Generic[P]):
    """Keys of objects by the values that a function finds in their projections."""

    def __init__(self, keys: Callable[[P], Iterable[str]]) -> None:
        self._keys = keys
        self._by_value: dict[str, dict[Key, None]] = {}
        self._values: dict[Key, tuple[str, ...]] = {}

    def put(self, key: Key, value: P | None) -> None:
        for name in self._values.pop(key, ()):
            holders = self._by_value[name]
            holders.pop(key, None)
            if not holders:
                del self._by_value[name]
        if value is None:
            return
        names = tuple(dict.fromkeys(self._keys(value)))
        if names:
            self._values[key] = names
        for name in names:
            self._by_value.setdefault(name, {})[key] = None

    def find(self, value: str) -> tuple[Key, ...]:
        return tuple(self._by_value.get(value, ()))


class Informer(Generic[P]):
    """Keeps the projections of a kind's objects current while `run` runs.

    Args:
        client: who lists and watches.
        gvk: the kind.
        project: makes of an object what is kept; called on the event loop, so it must
            be quick. Where it raises, the object is logged and left out.
        namespace: empty for all.
        labels: a label selector.
        fields: a field selector.
        page: objects per page of a list.
        sleep: waits seconds.
        chance: a number from 0 up to 1.
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        client: Client,
        gvk: GVK,
        *,
        project: Callable[[JSON], P],
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        page: int = 100,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gvk = gvk
        self.namespace = namespace
        self.last_error = ""
        self._client = client
        self._project = project
        self._labels = labels
        self._fields = fields
        self._page = page
        self._sleep = sleep
        self._chance = chance
        self._monotonic = monotonic
        self._log = logging.get("kube")
        self._kept: dict[Key, _Kept[P]] = {}
        self._version = ""
        self._synced = asyncio.Event()
        self._tried = asyncio.Event()
        self._denied = False
        self._failures = 0
        self._handlers: dict[object, Handler[P]] = {}
        self._indexes: dict[str, _Index[P]] = {}

    @property
    def has_synced(self) -> bool:
        """Whether all objects have been seen once; a kind that is not served has none."""
        return self._synced.is_set()

    async def synced(self, timeout: float | None = None) -> None:
        """Wait until all objects have been seen once.

        Args:
            timeout: seconds to wait at most; None for ever.

        Raises:
            TimeoutError: it took longer, or, where a timeout is given, listing is
                forbidden, so that waiting has no end in sight; its text is `last_error`.
        """
        if timeout is None:
            await self._synced.wait()
            return
        try:
            async with asyncio.timeout(timeout):
                await self._tried.wait()
                if not self._denied:
                    await self._synced.wait()
        except TimeoutError:
            raise TimeoutError(self.last_error or f"{self.gvk} was not listed in time") from None
        if not self.has_synced:
            raise TimeoutError(self.last_error)

    def get(self, namespace: str, name: str) -> P | None:
        """Give the projection of one object, or None."""
        kept = self._kept.get((namespace, name))
        return kept.value if kept is not None else None

    def items(self, namespace: str | None = None) -> list[P]:
        """Give the projections of all objects, or of those of one namespace."""
        if namespace is None:
            return [kept.value for kept in self._kept.values()]
        return [kept.value for key, kept in self._kept.items() if key[0] == namespace]

    def subscribe(self, handler: Handler[P]) -> Callable[[], None]:
        """Call `handler` on the loop for every change from now on; gives the way to stop it.

        It must be quick and must not wait. Where it raises, that is logged.
        """
        token = object()
        self._handlers[token] = handler

        def unsubscribe() -> None:
            self._handlers.pop(token, None)

        return unsubscribe

    def index(self, name: str, keys: Callable[[P], Iterable[str]]) -> None:
        """Keep an index of the objects by values; a name given again replaces the former.

        Args:
            name: of the index.
            keys: finds the values in a projection.
        """
        made = _Index(keys)
        for key, kept in self._kept.items():
            self._put(made, key, kept.value)
        self._indexes[name] = made

    def by_index(self, name: str, value: str) -> list[P]:
        """Give the projections whose keys in an index contain a value.

        Raises:
            KeyError: there is no such index.
        """
        return [self._kept[key].value for key in self._indexes[name].find(value)]

    async def run(self) -> None:
        """List, watch, and begin again after every failure, until cancelled."""
        while True:
            began = self._monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Gone:
                self._version = ""
                self._failures += 1
                if self._failures > 1:
                    await self._pause(_LONGEST_UNREACHABLE)
            except NotFound as error:
                self._failures += 1
                await self._vanished(error)
            except Exception as error:  # the barrier of S13: nothing ends an informer but its owner
                self._failures += 1
                self._failed(error)
                await self._pause(_LONGEST_UNREACHABLE if isinstance(error, Unreachable) else _LONGEST)
            else:
                if self._monotonic() - began < _SHORT:
                    await self._pause(_LONGEST_UNREACHABLE)
                else:
                    self._failures = 0

    async def _list(self) -> None:
        fresh: dict[Key, _Kept[P]] = {}
        version = ""
        pages = self._client.pages(
            self.gvk, self.namespace, labels=self._labels, fields=self._fields, limit=self._page
        )
        async with aclosing(pages):
            async for page in pages:
                for obj in page.items:
                    self._keep(obj, fresh)
                version = page.resource_version
                await asyncio.sleep(0)
        await self._replace(fresh)
        self._version = version
        self._settled()

    def _settled(self) -> None:
        self.last_error = ""
        self._denied = False
        self._synced.set()
        self._tried.set()

    def _keep(self, obj: JSON, into: dict[Key, _Kept[P]]) -> None:
        metadata = obj.get("metadata") or {}
        key = (str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        version, uid = str(metadata.get("resourceVersion") or ""), str(metadata.get("uid") or "")
        before = self._kept.get(key)
        if before is not None and before.version == version and before.uid == uid:
            into[key] = before
            return
        try:
            into[key] = _Kept(version, uid, self._project(obj))
        except Exception as error:
            self._poisoned(key, error)
            if before is not None:
                # What was known stays; to lose it would look like a deletion.
                into[key] = before

    async def _replace(self, fresh: dict[Key, _Kept[P]]) -> None:
        """Take a whole list, telling handlers how it differs from what was known."""
        count = 0
        for key in [key for key in self._kept if key not in fresh]:
            self._set(key, None)
            count += 1
            if count % _BURST == 0:
                await asyncio.sleep(0)
        for key, kept in fresh.items():
            self._set(key, kept)
            count += 1
            if count % _BURST == 0:
                await asyncio.sleep(0)

    def _set(self, key: Key, kept: _Kept[P] | None) -> None:
        before = self._kept.get(key)
        if kept is None:
            if before is not None:
                del self._kept[key]
                self._tell(Change("deleted", *key, before.value, None))
            return
        if before is kept:
            return
        if before is not None and before.uid != kept.uid:
            # Deleted and made anew while nobody looked.
            del self._kept[key]
            self._tell(Change("deleted", *key, before.value, None))
            before = None
        self._kept[key] = kept
        if before is None:
            self._tell(Change("added", *key, None, kept.value))
        else:
            self._tell(Change("modified", *key, before.value, kept.value))

    async def _watch(self) -> None:
        """Follow the changes until the server ends the watch."""
        events = self._client.watch(
            self.gvk,
            self.namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=self._version,
            timeout_seconds=_WATCH_LEAST + int(_WATCH_SPREAD * self._chance()),
        )
        count = 0
        async with aclosing(events):
            async for event in events:
                self._take(event)
                self._failures = 0
                if self.last_error:
                    self._settled()
                count += 1
                if count % _BURST == 0:
                    await asyncio.sleep(0)

    def _take(self, event: WatchEvent) -> None:
        metadata = event.object.get("metadata") or {}
        version = str(metadata.get("resourceVersion") or "")
        if event.type in ("ADDED", "MODIFIED"):
            found: dict[Key, _Kept[P]] = {}
            self._keep(event.object, found)
            for key, kept in found.items():
                self._set(key, kept)
        elif event.type == "DELETED":
            self._set((str(metadata.get("namespace") or ""), str(metadata.get("name") or "")), None)
        if version:
            self._version = version

    def _tell(self, change: Change[P]) -> None:
        key = (change.namespace, change.name)
        for index in self._indexes.values():
            self._put(index, key, change.new)
        for handler in tuple(self._handlers.values()):
            try:
                handler(change)
            except Exception as error:
                self._log.error(
                    "handler failed", kind=str(self.gvk.kind), error=_words(error), exc_info=error
                )

    def _put(self, index: _Index[P], key: Key, value: P | None) -> None:
        try:
            index.put(key, value)
        except Exception as error:
            self._poisoned(key, error)

    async def _vanished(self, error: ApiError) -> None:
        """The kind is not served (any more): its objects are gone; wait until it is there."""
        self._version = ""
        await self._replace({})
        self._settled()
        self.last_error = error.message
        if not await self._client.mapper.appears(self.gvk, self._delay(_LONGEST)):
            return
        # Somebody may see the kind a moment before its path is there, or after it is gone.
        self._failures = min(self._failures, 3)
        await self._pause(_LONGEST)

    def _failed(self, error: Exception) -> None:
        words = _words(error)
        if words != self.last_error:
            self._log.warning("watch failed", kind=self.gvk.kind, namespace=self.namespace, error=words)
        self.last_error = words
        self._denied = isinstance(error, Forbidden)
        if self._denied:
            self._tried.set()

    def _poisoned(self, key: Key, error: Exception) -> None:
        self._log.error(
            "object skipped", kind=self.gvk.kind, namespace=key[0], name=key[1], error=_words(error)
        )

    def _delay(self, limit: float) -> float:
        longest = min(_FIRST * 2.0 ** min(max(self._failures - 1, 0), 16), limit)
        return longest * (0.5 + self._chance() / 2)

    async def _pause(self, limit: float) -> None:
        await self._sleep(self._delay(limit))


def _words(error: Exception) -> str:
    return error.message if isinstance(error, GitwrightError) else f"{type(error).__name__}: {error}"
