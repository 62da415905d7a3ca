"""What we manage in one cluster: the watches over it and the newest known state.

Role in the flow: keeps one informer per kind over the objects that carry our owner
labels, holds the server's answers to our applies until the watch has caught up,
and tells subscribers which Kustomization's objects changed. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from gitwright.apply.live import NOBODY, OWNER_NAME, Live, Owner, owner_of, project
from gitwright.apply.plan import Answer
from gitwright.core.objects import GVK, JSON, GroupKind, ObjectKey
from gitwright.health import Expressions, assess
from gitwright.kube.cluster import Cluster
from gitwright.kube.informer import Change, Informer

# Objects whose end is remembered, so that an older answer of the server does not bring them back.
GRAVES = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """A change of a managed object, as told to subscribers.

    Args:
        owner: the Kustomization it is about; for an object that changed hands, the former one.
        key: the object.
        drifted: whether it differs from the answer to our last apply, or is gone.
        mended: whether it became healthy.
    """

    owner: Owner
    key: ObjectKey
    drifted: bool
    mended: bool = False


class Estate:
    """The managed objects of one cluster.

    Args:
        cluster: whose client reads and watches as the engine.
        namespace: watch only this namespace; empty for all.
        extra: further managers whose fields an apply takes over.
    """

    def __init__(self, cluster: Cluster, namespace: str = "", extra: tuple[str, ...] = ()) -> None:
        self.cluster = cluster
        self.extra = extra
        self._rules: dict[Owner, tuple[Expressions, str]] = {}
        self._namespace = namespace
        self._informers: dict[GVK, Informer[Live]] = {}
        self._starting: dict[GVK, asyncio.Lock] = {}
        self._known: dict[ObjectKey, Live] = {}
        self._gone: OrderedDict[ObjectKey, tuple[str, int]] = OrderedDict()
        self._answers: dict[Owner, dict[ObjectKey, Answer]] = {}
        self._holders: dict[ObjectKey, Owner] = {}
        self._subscribers: list[Callable[[Seen], None]] = []

    def subscribe(self, handler: Callable[[Seen], None]) -> Callable[[], None]:
        """Call `handler` on the loop for each change of a managed object; gives the way to stop it."""
        self._subscribers.append(handler)
        return lambda: self._subscribers.remove(handler)

    async def watch(self, kinds: Iterable[GVK], patience: float = 10.0) -> None:
        """Make sure that these kinds are watched, and wait until the watches know all.

        Args:
            kinds: kinds with versions; those already watched cost nothing, those that the
                server lets nobody watch are left out.
            patience: seconds to wait for a first list; a kind that cannot be listed
                (not there yet, forbidden) is not waited for longer.
        """
        kinds = [gvk for gvk in dict.fromkeys(kinds) if self._watchable(gvk)]
        fresh = [gvk for gvk in kinds if gvk not in self._informers]
        for gvk in fresh:
            async with self._starting.setdefault(gvk, asyncio.Lock()):
                if gvk not in self._informers:
                    await self._start(gvk)
        waits = [self._informers[gvk] for gvk in kinds if not self._informers[gvk].has_synced]
        if waits:
            await asyncio.gather(*(self._synced(informer, patience) for informer in waits))

    def _watchable(self, gvk: GVK) -> bool:
        resource = self.cluster.client.mapper.known(gvk)
        return resource is None or {"list", "watch"} <= resource.verbs

    async def _start(self, gvk: GVK) -> None:
        informer = await self.cluster.informer(
            gvk, self.project, namespace=self._namespace, labels=OWNER_NAME, view="estate"
        )
        informer.subscribe(partial(self._changed, gvk))
        self._informers[gvk] = informer

    @staticmethod
    async def _synced(informer: Informer[Live], patience: float) -> None:
        try:
            await informer.synced(patience)
        except TimeoutError:
            return

    def judge(self, owner: Owner, expressions: Expressions | None, digest: str) -> None:
        """Judge the health of a Kustomization's objects by these expressions from now on.

        Args:
            owner: the Kustomization.
            expressions: compiled expressions, or None for the usual rules.
            digest: tells one set of expressions from another.
        """
        if expressions is None:
            self._rules.pop(owner, None)
        else:
            self._rules[owner] = (expressions, digest)

    def misjudged(self, owner: Owner, keys: Iterable[ObjectKey]) -> list[Live]:
        """Give the objects whose health was judged by other expressions than the present ones."""
        digest = self._rules[owner][1] if owner in self._rules else ""
        return [live for live in self.all_of(keys).values() if live.judged_by != digest]

    def covers(self, gvk: GVK) -> bool:
        """Tell whether the watch of a kind knows all of its managed objects."""
        informer = self._informers.get(gvk)
        return informer is not None and informer.has_synced

    def project(self, obj: JSON) -> Live:
        """Reduce an object, judging its health as its owner asks."""
        owner = owner_of(obj)
        expressions, digest = self._rules.get(owner, (None, ""))
        return project(obj, assess(obj, expressions), digest, self.extra)

    def find(self, key: ObjectKey) -> Live | None:
        """Give the newest known state of an object, or None."""
        return self._known.get(key)

    def all_of(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Live]:
        """Give the newest known state of those objects that exist."""
        return {key: live for key in keys if (live := self._known.get(key)) is not None}

    def learn(self, obj: JSON) -> Live:
        """Take in an object from an answer of the server, ahead of the watch."""
        live = self.project(obj)
        self._take(live)
        return live

    def lost(self, key: ObjectKey, uid: str) -> None:
        """Note that an object is known to be gone, ahead of the watch."""
        known = self._known.get(key)
        if known is not None and (not uid or known.uid == uid):
            del self._known[key]
            self._bury(known)

    def _bury(self, live: Live) -> None:
        self._gone[live.key] = (live.uid, live.version)
        self._gone.move_to_end(live.key)
        while len(self._gone) > GRAVES:
            self._gone.popitem(last=False)

    def answered(self, owner: Owner, key: ObjectKey, answer: Answer) -> None:
        """Remember what the server made of an apply by `owner`.

        The watch may have shown a later change, or the object's end, before the answer
        came; nobody could call that drift then, so it is told now.
        """
        self._answers.setdefault(owner, {})[key] = answer
        self._holders[key] = owner
        known = self._known.get(key)
        if known.owned != answer.owned if known is not None else key in self._gone:
            self._send(Seen(owner, key, True))

    def answers(self, owner: Owner) -> dict[ObjectKey, Answer]:
        """Give what the server answered to the applies of one Kustomization."""
        return self._answers.get(owner, {})

    def forget(self, owner: Owner, keys: Iterable[ObjectKey] | None = None) -> None:
        """Forget the answers of a Kustomization, all or for some objects."""
        mine = self._answers.get(owner)
        if mine is None:
            return
        for key in list(mine) if keys is None else list(keys):
            mine.pop(key, None)
            if self._holders.get(key) == owner:
                del self._holders[key]
        if not mine:
            del self._answers[owner]

    def _take(self, live: Live) -> bool:
        known = self._known.get(live.key)
        if known is not None and known.version > live.version:
            return False
        gone = self._gone.get(live.key)
        if gone is not None:
            if gone[0] == live.uid and live.version <= gone[1]:
                return False
            del self._gone[live.key]
        self._known[live.key] = live
        return True

    def _changed(self, gvk: GVK, change: Change[Live]) -> None:
        if change.new is not None:
            if self._speaks_for(gvk, change.new) and self._take(change.new):
                self._tell(change.new.key, change.new, change.old)
            return
        if change.old is None or self._shown_elsewhere(gvk, change.old):
            return
        known = self._known.get(change.old.key)
        if known is not None and known.uid == change.old.uid:
            del self._known[change.old.key]
        if known is None or known.uid == change.old.uid:
            self._bury(change.old)
            self._tell(change.old.key, None, change.old)

    def _speaks_for(self, gvk: GVK, live: Live) -> bool:
        """Tell whether the watch of a version decides about an object.

        Where a kind is watched in several versions, each shows the same object in another
        shape; only in the version of our last apply does it compare with the answer to it.
        """
        if live.written_as in ("", gvk.api_version):
            return True
        better = GVK.parse(live.written_as, gvk.kind)
        informer = self._informers.get(better)
        served = self.cluster.client.mapper.known(better) is not None
        return informer is None or not informer.has_synced or not served

    def _shown_elsewhere(self, gvk: GVK, live: Live) -> bool:
        """Tell whether the watch of another version still shows an object that this one lost.

        So it is when a version is served no more; else the other watch follows in a moment.
        """
        for other, informer in self._informers.items():
            if other == gvk or other.group_kind != gvk.group_kind or informer.last_error:
                continue
            shown = informer.get(live.key.namespace, live.key.name)
            if shown is not None and shown.uid == live.uid:
                return True
        return False

    def _tell(self, key: ObjectKey, new: Live | None, old: Live | None) -> None:
        told: set[Owner] = set()
        holder = self._holders.get(key)
        mended = new is not None and new.health.status == "Current"
        mended = mended and (old is None or old.health.status != "Current")
        for owner in (holder, new.owner if new else None, old.owner if old else None):
            if owner is None or owner == NOBODY or owner in told:
                continue
            told.add(owner)
            answer = self._answers.get(owner, {}).get(key)
            drifted = answer is not None and (new is None or new.owned != answer.owned)
            self._send(Seen(owner, key, drifted, mended))

    def _send(self, seen: Seen) -> None:
        for handler in tuple(self._subscribers):
            handler(seen)

    def kinds(self) -> tuple[GroupKind, ...]:
        """Give the kinds that are watched."""
        return tuple(gvk.group_kind for gvk in self._informers)
