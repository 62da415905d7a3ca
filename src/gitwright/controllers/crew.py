"""What the parts of a Kustomization's run share: the run under way, what is remembered, the tools.

Role in the flow: the reconciler leads a `Pass` through its stages; repairs, waits and
finalization are parts of their own over the same `Crew`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from gitwright.api import meta
from gitwright.api.kustomize import Kustomization
from gitwright.apply.engine import Applied, Engine, Rights
from gitwright.apply.live import Owner
from gitwright.apply.plan import Plan, PlanOptions, make_plan
from gitwright.apply.repairs import Repairs
from gitwright.controllers import conclude as outcome
from gitwright.controllers.conclude import Run
from gitwright.controllers.desk import Desk
from gitwright.core.objects import GVK, JSON, GroupKind, Manifest
from gitwright.kube.client import Client
from gitwright.notify.events import Note

# Objects that are planned in less than a few milliseconds.
MANY = 200

KIND = GVK(meta.KUSTOMIZE_GROUP, "v1", meta.KUSTOMIZATION)


@dataclass(frozen=True, slots=True)
class Options:
    """What the engine's settings say about Kustomizations.

    Args:
        default_service_account: whom to act as where none is named; empty for the engine itself.
        cross_namespace: whether sources of other namespaces may be used.
        dependency: seconds between looks while something else must happen first.
        timeout_floor: least time limit of a run, seconds.
        custom_stages: kinds applied in a stage of their own.
        drift_window: seconds within which repairs of one field count together.
        drift_backoff: seconds of the first back-off of repairs.
        sees_all: whether every Kustomization of the cluster is watched, not only a shard's.
    """

    default_service_account: str = ""
    cross_namespace: bool = True
    dependency: float = 30.0
    timeout_floor: float = 30.0
    custom_stages: frozenset[GroupKind] = frozenset()
    drift_window: float = 60.0
    drift_backoff: float = 10.0
    sees_all: bool = True


@dataclass(slots=True)
class Memory:
    """What is remembered of one Kustomization between runs; may be lost at any time."""

    repairs: Repairs
    tried: tuple[object, ...] = ()
    prepared: tuple[str, tuple[Manifest, ...]] = ("", ())
    judged: str = ""
    unhealthy: bool = False
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Pass:
    """One run under way: the object, and what is known so far."""

    obj: JSON
    typed: Kustomization
    started: float
    run: Run
    silent: bool = False
    done: Applied = field(default_factory=Applied)
    told: int = 0
    kept: tuple[str, ...] = ()

    @property
    def owner(self) -> Owner:
        """The Kustomization as its owner labels name it."""
        return Owner(self.typed.namespace, self.typed.name)


class Crew:
    """The tools that all parts of a run use.

    Args:
        desk: reads and writes our own objects, and the clock.
        engine: applies plans.
        options: see `Options`.
    """

    def __init__(self, desk: Desk, engine: Engine, options: Options) -> None:
        self.desk = desk
        self.engine = engine
        self.estate = engine.estate
        self.options = options
        self._memory: dict[Owner, Memory] = {}

    def memory(self, owner: Owner) -> Memory:
        """Give what is remembered of a Kustomization."""
        if owner not in self._memory:
            repairs = Repairs(self.options.drift_window, self.options.drift_backoff)
            self._memory[owner] = Memory(repairs)
        return self._memory[owner]

    def recall(self, owner: Owner) -> Memory | None:
        """Give what is remembered of a Kustomization, if there is anything."""
        return self._memory.get(owner)

    def forget(self, owner: Owner) -> None:
        """Forget everything about a Kustomization that is gone."""
        self._memory.pop(owner, None)
        self.estate.forget(owner)
        self.estate.judge(owner, None, "")

    def rights(self, typed: Kustomization) -> Rights:
        """Give the identity to act as: the named service account, the default one, or the engine."""
        account = typed.spec.service_account_name or self.options.default_service_account
        client: Client = self.estate.cluster.client
        if account:
            client = client.impersonate(f"system:serviceaccount:{typed.namespace}:{account}")
        return Rights(client, Owner(typed.namespace, typed.name), typed.spec.force)

    async def plan(self, now: Pass, wanted: Sequence[Manifest], *, renewed: bool, settled: bool) -> Plan:
        """Plan what to do about the wanted objects, from what the watches know.

        Many are planned in a thread; what changes meanwhile is told by the estate when the
        plan's view of it becomes the answer it is compared with.
        """
        live = self.estate.all_of(manifest.key for manifest in wanted)
        others = {item.owner for item in live.values()} - {now.owner}
        options = PlanOptions(
            owner=now.owner,
            renewed=renewed,
            forced=now.typed.requested,
            trusted=settled,
            custom_stages=self.options.custom_stages,
            ended=self._ended(others),
        )
        answers = self.estate.answers(now.owner)
        if len(wanted) <= MANY:
            return make_plan(wanted, live, answers, options)
        return await asyncio.to_thread(make_plan, wanted, live, dict(answers), options)

    def _ended(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        if not self.options.sees_all:
            # Another shard's Kustomization is not seen here, and exists all the same.
            return frozenset()
        return frozenset(
            owner
            for owner in owners
            if owner.name and self.desk.find(KIND, owner.namespace, owner.name) is None
        )

    def tell_applied(self, now: Pass) -> None:
        """Tell what a run has written so far, before its end."""
        lines = [*now.done.lines()[now.told :], *now.run.pruned]
        if lines:
            now.told = len(now.done.lines())
            now.run = replace(now.run, pruned=())
            note = Note("Normal", "Progressing", "\n".join(lines), outcome.annotations_of(now.run))
            self.desk.tell(now.obj, note)

    async def progress(self, now: Pass, *, healthy: bool) -> None:
        """Write the status of a run under way."""
        status = outcome.progress(now.obj, now.run, self.desk.now(), healthy=healthy)
        now.obj = await self.desk.write_status(now.obj, status, meta.STATUS_MANAGER)
