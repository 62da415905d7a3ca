"""The reconciler of Kustomizations: from a source's artifact to applied, healthy objects.

Role in the flow: one run resolves, builds, plans, applies, prunes and waits, and raises
where it cannot go on; `conclude` turns what came of it into status and events. A settled
object costs nothing: drift is seen by the watch and repaired without a status write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gitwright.api import meta
from gitwright.api.kinds import decode
from gitwright.api.kustomize import Kustomization
from gitwright.apply.engine import Applied, Engine, Hooks, Rights, known_kinds
from gitwright.apply.inventory import Inventory
from gitwright.apply.live import Owner
from gitwright.apply.plan import Change, Plan, PlanOptions, Step, make_plan
from gitwright.apply.prepare import CommonMetadata, prepare
from gitwright.apply.repairs import Repairs
from gitwright.apply.wait import Wait, wait_gone, watched_by_name
from gitwright.artifact.store import Artifact
from gitwright.controllers import conclude as outcome
from gitwright.controllers.building import Builder, Built
from gitwright.controllers.conclude import APPLYING, BUILDING, CHECKING, FETCHING, Pace, Run
from gitwright.controllers.desk import Desk
from gitwright.controllers.references import (
    check_dependencies,
    no_artifact,
    resolve_source,
    source_ref,
)
from gitwright.core import conditions, durations
from gitwright.core.errors import GitwrightError, Stalled, Transient
from gitwright.core.objects import GVK, JSON, GroupKind, Manifest, ObjectKey
from gitwright.health import Expressions
from gitwright.kube.client import Client
from gitwright.kube.errors import NotFound
from gitwright.notify.events import Note
from gitwright.runtime.controller import Outcome, Request, Slot

KIND = GVK(meta.KUSTOMIZE_GROUP, "v1", meta.KUSTOMIZATION)
# A wait that lasts longer than this is told of before it ends.
PATIENCE = 5.0


Release = Callable[[], Awaitable[None]]


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
    """

    default_service_account: str = ""
    cross_namespace: bool = True
    dependency: float = 30.0
    timeout_floor: float = 30.0
    custom_stages: frozenset[GroupKind] = frozenset()
    drift_window: float = 60.0
    drift_backoff: float = 10.0


@dataclass(slots=True)
class Memory:
    """What is remembered of one Kustomization between runs; may be lost at any time."""

    repairs: Repairs
    tried: tuple[object, ...] = ()
    prepared: tuple[str, tuple[Manifest, ...]] = ("", ())
    judged: str = ""
    unhealthy: bool = False


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

    @property
    def owner(self) -> Owner:
        """The Kustomization as its owner labels name it."""
        return Owner(self.typed.namespace, self.typed.name)


class KustomizationReconciler:
    """Reconciles Kustomizations of one cluster.

    Args:
        desk: reads and writes our own objects, and the clock.
        engine: applies plans.
        builder: renders.
        options: see `Options`.
    """

    def __init__(self, desk: Desk, engine: Engine, builder: Builder, options: Options) -> None:
        self._desk = desk
        self._engine = engine
        self._estate = engine.estate
        self._builder = builder
        self._options = options
        self._memory: dict[Owner, Memory] = {}

    def memory(self, owner: Owner) -> Memory:
        """Give what is remembered of a Kustomization."""
        if owner not in self._memory:
            repairs = Repairs(self._options.drift_window, self._options.drift_backoff)
            self._memory[owner] = Memory(repairs)
        return self._memory[owner]

    def remembers(self, obj: JSON, artifact: Artifact, builder: Builder) -> bool:
        """Tell cheaply whether an artifact changes nothing for a Kustomization.

        Those go after the ones that it does change (design, section 1, second idea).
        """
        try:
            spec = decode(Kustomization, obj).spec
        except Stalled:
            return False
        history = (obj.get("status") or {}).get("history") or [{}]
        digest: str | None = builder.remembered(artifact, spec)
        return digest is not None and digest == history[0].get("digest")

    async def reconcile(self, request: Request, slot: Slot) -> Outcome:
        """Make the cluster equal to what the Kustomization says, and say so in its status."""
        obj = self._desk.find(KIND, request.namespace, request.name)
        if obj is None:
            owner = Owner(request.namespace, request.name)
            self._memory.pop(owner, None)
            self._estate.forget(owner)
            self._estate.judge(owner, None, "")
            return Outcome()
        try:
            typed = decode(Kustomization, obj)
        except Stalled as wrong:
            return await self._conclude_undecoded(obj, wrong)
        pace = Pace(typed.interval, typed.retry_interval, self._options.dependency)
        found = (obj.get("status") or {}).get("conditions") or []
        run = Run(
            timeout=typed.timeout(self._options.timeout_floor),
            was_healthy=conditions.is_true(found, conditions.HEALTHY),
        )
        now = Pass(obj, typed, self._desk.monotonic(), run)
        error: GitwrightError | None = None
        try:
            await self._pass(now, slot)
        except GitwrightError as raised:
            error = raised
        if error is None and now.silent:
            return Outcome(requeue_after=self._desk.jitter(pace.interval))
        return await self._conclude(now, error, pace)

    async def _conclude_undecoded(self, obj: JSON, error: Stalled) -> Outcome:
        end = outcome.conclude(obj, Run(), error, Pace(0.0, 0.0, 0.0), self._desk.now())
        await self._desk.write_status(obj, end.status, meta.STATUS_MANAGER)
        self._desk.tell(obj, *end.notes)
        return Outcome()

    async def _conclude(self, now: Pass, error: GitwrightError | None, pace: Pace) -> Outcome:
        lines = tuple(now.done.lines()[now.told :])
        run = replace(now.run, applied=lines, seconds=self._desk.monotonic() - now.started)
        end = outcome.conclude(now.obj, run, error, pace, self._desk.now())
        memory = self.memory(now.owner)
        memory.unhealthy = error is not None and error.reason == "HealthCheckFailed"
        self._desk.log_outcome(now.obj, run.revision, error, run.seconds)
        await self._desk.write_status(now.obj, end.status, meta.STATUS_MANAGER)
        self._desk.tell(now.obj, *end.notes)
        after = end.requeue_after
        if error is None and after is not None:
            after = self._desk.jitter(after)
        return Outcome(requeue_after=after, backoff=end.backoff)

    async def _pass(self, now: Pass, slot: Slot) -> None:
        typed = now.typed
        if typed.deleting:
            await self._finalize(now, slot)
            return
        if not typed.finalized:
            now.obj = await self._desk.add_finalizer(KIND, now.obj, meta.STATUS_MANAGER)
        if typed.suspended:
            now.silent = True
            return
        _refuse_unsupported(typed)
        self._compile(now)
        artifact = await self._artifact(now)
        if artifact is None:
            now.silent = True
            return
        ref = source_ref(typed.spec, typed.namespace)
        find = partial(self._desk.find, KIND)
        check_dependencies(now.obj, typed.spec, ref, artifact.revision, find)
        rights = self._rights(typed)
        now.run = replace(now.run, stage=FETCHING)
        built = await self._build(now, artifact, rights, slot)
        slot.stage()
        await self._converge(now, built, rights, slot)

    def _compile(self, now: Pass) -> None:
        """Compile the health expressions once per generation."""
        memory, generation = self.memory(now.owner), f"{now.typed.metadata.uid}/{now.typed.generation}"
        if memory.judged == generation:
            return
        rules = (now.obj.get("spec") or {}).get("healthCheckExprs") or []
        compiled = Expressions.compile(rules) if rules else None
        self._estate.judge(now.owner, compiled, generation)
        memory.judged = generation

    async def _artifact(self, now: Pass) -> Artifact | None:
        """Give the artifact, or None while this process has not taken it up yet."""
        typed = now.typed
        ref = source_ref(typed.spec, typed.namespace)
        find = partial(self._desk.find, GVK(meta.SOURCE_GROUP, "v1", ref.kind))
        source = resolve_source(ref, typed.namespace, find, cross_namespace=self._options.cross_namespace)
        shown = (source.get("status") or {}).get("artifact")
        if not shown:
            raise no_artifact(source, durations.show(self._options.dependency))
        artifact = await self._desk.artifact(ref.kind, ref.namespace, ref.name)
        if artifact is None or artifact.revision != shown.get("revision"):
            # The status is there before this process has the files: the source's own run brings them.
            return None
        origin = (shown.get("metadata") or {}).get("org.opencontainers.image.revision", "")
        now.run = replace(now.run, revision=artifact.revision, origin=str(origin))
        return artifact

    def _rights(self, typed: Kustomization) -> Rights:
        account = typed.spec.service_account_name or self._options.default_service_account
        client: Client = self._estate.cluster.client
        if account:
            client = client.impersonate(f"system:serviceaccount:{typed.namespace}:{account}")
        return Rights(client, Owner(typed.namespace, typed.name), typed.spec.force)

    async def _build(self, now: Pass, artifact: Artifact, rights: Rights, slot: Slot) -> Built:
        work = self._builder.build(artifact, now.typed.spec, now.typed.namespace, rights.client)
        try:
            built = await slot.interruptible(work)
        except GitwrightError as error:
            # Flux looks for the path while it fetches, before it says that it attempts a build.
            if error.reason != "ArtifactFailed":
                now.run = replace(now.run, stage=BUILDING)
            raise
        now.run = replace(now.run, stage=APPLYING, digest=built.digest)
        return built

    async def _converge(self, now: Pass, built: Built, rights: Rights, slot: Slot) -> None:
        """Plan, apply, prune and wait; or only repair, when nothing new is wanted."""
        wanted = await self._prepared(now, built, rights.client)
        old = Inventory.read(now.obj.get("status") or {})
        kinds = [manifest.gvk for manifest in wanted]
        await self._estate.watch(await known_kinds(rights.client, kinds))
        settled = _settled(now, built)
        memory = self.memory(now.owner)
        inputs = (now.typed.metadata.uid, now.typed.generation, now.run.revision, built.digest)
        renewed = not settled and memory.tried != inputs
        if renewed:
            memory.repairs.forget()
        plan = self._plan(now, wanted, renewed=renewed, settled=settled)
        self._engine.adopt(plan, now.owner)
        if settled:
            if await self._guard(now, plan, rights):
                now.silent = True
                return
            plan = self._plan(now, wanted, renewed=False, settled=True)
        stale = old.stale(manifest.key for manifest in wanted)
        await self._apply(now, plan, rights, slot, old)
        memory.tried = inputs
        await self._prune(now, plan, old, stale, rights)
        await self._check_health(now, plan, rights, slot)

    async def _prepared(self, now: Pass, built: Built, client: Client) -> tuple[Manifest, ...]:
        memory, common = self.memory(now.owner), now.typed.spec.common_metadata
        token = f"{built.digest}/{now.typed.generation}"
        if memory.prepared[0] != token:
            scoped = frozenset(
                [
                    gvk
                    for gvk in await known_kinds(client, [manifest.gvk for manifest in built.manifests])
                    if not (await client.mapper.resource(gvk)).namespaced
                ]
            )
            metadata = (
                CommonMetadata(common.labels or {}, common.annotations or {}) if common else CommonMetadata()
            )
            ready = await asyncio.to_thread(prepare, built.manifests, now.owner, metadata, scoped)
            memory.prepared = (token, ready)
        return memory.prepared[1]

    def _plan(self, now: Pass, wanted: Sequence[Manifest], *, renewed: bool, settled: bool) -> Plan:
        options = PlanOptions(
            owner=now.owner,
            renewed=renewed,
            forced=now.typed.requested,
            trusted=settled,
            custom_stages=self._options.custom_stages,
        )
        keys = [manifest.key for manifest in wanted]
        return make_plan(wanted, self._estate.all_of(keys), self._estate.answers(now.owner), options)

    async def _guard(self, now: Pass, plan: Plan, rights: Rights) -> bool:
        """Repair drift of a settled Kustomization; tell whether it stays settled."""
        await self._repair(now, plan, rights)
        if not (now.typed.spec.wait or now.typed.spec.health_checks):
            return True
        wait, release = await self._wait(now, plan, rights)
        try:
            return wait.settled()
        finally:
            await release()

    async def _repair(self, now: Pass, plan: Plan, rights: Rights) -> None:
        """Restore drifted objects, unless somebody keeps undoing it."""
        memory, moment = self.memory(now.owner), self._desk.monotonic()
        ceiling = max(now.typed.interval, 60.0)
        stages: list[tuple[Step, ...]] = []
        due: list[tuple[ObjectKey, tuple[str, ...]]] = []
        later: list[float] = []
        for stage in plan.stages:
            kept = []
            for step in stage:
                if step.verdict not in ("repair", "check"):
                    continue
                paths = self._engine.drift(step, now.owner)
                verdict = memory.repairs.ask(step.key, paths, moment)
                if verdict.warn:
                    self._warn(now, step, paths, verdict.wait)
                if verdict.wait > 0:
                    later.append(verdict.wait)
                else:
                    kept.append(step)
                    due.append((step.key, paths))
            stages.append(tuple(kept))
        if later:
            self._desk.again(KIND, now.typed.namespace, now.typed.name, min(later))
        if not due:
            return
        done = Applied()
        try:
            await self._engine.apply(Plan(tuple(stages)), rights, _quiet_hooks(), done)
        finally:
            if lines := done.lines():
                note = Note("Normal", "Progressing", "\n".join(lines), outcome.annotations_of(now.run))
                self._desk.tell(now.obj, note)
            written = {change.key for change in done.changes if change.action != "unchanged"}
            for key, paths in due:
                if key in written:
                    memory.repairs.made(key, paths, self._desk.monotonic(), ceiling)

    def _warn(self, now: Pass, step: Step, paths: tuple[str, ...], wait: float) -> None:
        others = ", ".join(step.live.others) if step.live and step.live.others else "another writer"
        fields = ", ".join(path.lstrip(".") for path in paths) or "the object itself"
        text = (
            f"{step.key.subject} is changed back again and again: {fields} by {others}; "
            f"next repair in {durations.show(round(max(wait, 0.0), 1))}\n"
            "hint: change it in Git, or let the other writer own the field by removing it from Git"
        )
        self._desk.tell(now.obj, Note("Warning", "DriftRepeated", text, outcome.annotations_of(now.run)))
        self.memory(now.owner).repairs.warned(step.key, paths)

    async def _apply(self, now: Pass, plan: Plan, rights: Rights, slot: Slot, old: Inventory) -> None:
        waits = now.typed.spec.wait or bool(now.typed.spec.health_checks)

        async def before_write(new: Mapping[ObjectKey, str]) -> None:
            union = old.with_all(new)
            if union.versions == old.versions:
                return
            # Old and new together, before the first create: a kill leaves nothing forgotten.
            now.run = replace(now.run, inventory=union, stage=CHECKING if waits else APPLYING)
            await self._progress(now, healthy=waits)
            now.run = replace(now.run, stage=APPLYING)

        async def ready(keys: Sequence[ObjectKey]) -> None:
            wait = Wait(self._estate, now.owner, keys)
            async with slot.released():
                verdict = await wait.run(60.0, interrupted=slot.stage, newer=slot.newer, on_wake=_nothing)
            if not verdict.healthy:
                raise Transient(verdict.message, reason="ReconciliationFailed", detail=verdict.detail)

        hooks = Hooks(before_write, slot.stage, ready)
        await self._engine.apply(plan, rights, hooks, now.done)
        entries = [(change.key, change.version) for change in now.done.changes]
        now.run = replace(
            now.run, inventory=Inventory.of(entries, old.unread), drifted=bool(now.done.lines())
        )

    async def _progress(self, now: Pass, *, healthy: bool) -> None:
        status = outcome.progress(now.obj, now.run, self._desk.now(), healthy=healthy)
        now.obj = await self._desk.write_status(now.obj, status, meta.STATUS_MANAGER)

    async def _prune(
        self, now: Pass, plan: Plan, old: Inventory, stale: Sequence[ObjectKey], rights: Rights
    ) -> None:
        if not stale or not now.typed.spec.prune:
            return
        changes, survivors, errors = await self._engine.prune(stale, old, rights)
        kept = [change.key for change in changes if change.keep]
        inventory = now.run.inventory or old
        more = {key: old.versions[key] for key in [*kept, *survivors]}
        now.run = replace(
            now.run,
            inventory=inventory.with_all(more),
            pruned=tuple(change.line for change in changes if not change.keep),
        )
        self._estate.forget(now.owner, stale)
        if errors:
            raise Transient(f"delete failed, errors: {';'.join(errors)};", reason="PruneFailed")

    async def _wait(self, now: Pass, plan: Plan, rights: Rights) -> tuple[Wait, Release]:
        """Make the wait that the spec asks for, and the way to end its watches."""
        spec = now.typed.spec
        own = {step.key: step for step in plan.steps() if step.verdict != "skip"}
        if spec.wait:
            skipped = {change.key for change in now.done.changes if change.action == "skipped"}
            keys = [key for key in own if key not in skipped and not _itself(key, now.typed)]
            await self._judge_anew(now.owner, {key: own[key].manifest.gvk for key in keys})
            return Wait(self._estate, now.owner, keys, ephemeral=_ephemeral(own.values())), _nothing
        refs = [
            (
                check.gvk,
                ObjectKey(check.gvk.group, check.kind, check.namespace or now.typed.namespace, check.name),
            )
            for check in spec.health_checks
        ]
        refs = [(gvk, key) for gvk, key in refs if not _itself(key, now.typed)]
        mine = [key for _, key in refs if key in own]
        await self._judge_anew(now.owner, {key: own[key].manifest.gvk for key in mine})
        others = [(gvk, key) for gvk, key in refs if key not in own]
        await self._may_look(others, rights)
        named = await watched_by_name(self._estate, others)

        async def release() -> None:
            for informer in named.values():
                await self._estate.cluster.release(informer)

        for informer in named.values():
            try:
                await informer.synced(10.0)
            except TimeoutError:
                continue
        return Wait(self._estate, now.owner, mine, named), release

    async def _judge_anew(self, owner: Owner, kinds: Mapping[ObjectKey, GVK]) -> None:
        """Look again at objects that were judged by other expressions than the present ones."""
        for live in self._estate.misjudged(owner, kinds):
            try:
                found = await self._estate.cluster.client.get(
                    kinds[live.key], live.key.name, live.key.namespace
                )
            except NotFound:
                continue
            self._estate.learn(found)

    async def _may_look(self, others: Sequence[tuple[GVK, ObjectKey]], rights: Rights) -> None:
        """Let the tenant's own rights decide what health shows (S28)."""
        if rights.client is self._estate.cluster.client:
            return
        for gvk, key in others:
            try:
                await rights.client.get(gvk, key.name, key.namespace)
            except NotFound:
                continue

    async def _check_health(self, now: Pass, plan: Plan, rights: Rights, slot: Slot) -> None:
        spec = now.typed.spec
        if not (spec.wait or spec.health_checks):
            return
        now.run = replace(now.run, stage=CHECKING, checked=True)
        wait, release = await self._wait(now, plan, rights)
        started = self._desk.monotonic()
        try:
            if not wait.settled():
                await self._wait_healthy(now, wait, plan, rights, slot)
        finally:
            await release()
        took = durations.show(round(self._desk.monotonic() - started, 6))
        now.run = replace(now.run, health=f"Health check passed in {took}")

    async def _wait_healthy(self, now: Pass, wait: Wait, plan: Plan, rights: Rights, slot: Slot) -> None:
        found = (now.obj.get("status") or {}).get("conditions") or []
        healthy = conditions.get(found, conditions.HEALTHY) or {}
        if healthy.get("status") != "Unknown" or healthy.get("message") != outcome.stage_text(now.run):
            await self._progress(now, healthy=True)
        started = self._desk.monotonic()
        wanted = [step.manifest for step in plan.steps()]

        async def on_wake() -> None:
            again = self._plan(now, wanted, renewed=False, settled=True)
            await self._repair(now, again, rights)

        teller = asyncio.create_task(self._tell_late(now))
        try:
            async with slot.released():
                verdict = await wait.run(
                    now.run.timeout, interrupted=slot.stage, newer=slot.newer, on_wake=on_wake
                )
        finally:
            teller.cancel()
        if not verdict.healthy:
            took = durations.show(round(self._desk.monotonic() - started, 6))
            raise Transient(
                f"health check failed after {took}: {verdict.message}",
                reason="HealthCheckFailed",
                detail=verdict.detail,
            )

    async def _tell_late(self, now: Pass) -> None:
        """Tell what was applied while the wait goes on, so that nobody wonders."""
        await asyncio.sleep(PATIENCE)
        lines = [*now.done.lines()[now.told :], *now.run.pruned]
        if lines:
            now.told = len(now.done.lines())
            now.run = replace(now.run, pruned=())
            note = Note("Normal", "Progressing", "\n".join(lines), outcome.annotations_of(now.run))
            self._desk.tell(now.obj, note)

    async def _finalize(self, now: Pass, slot: Slot) -> None:
        """Delete what was applied, as the deletion policy says, and let the object go.

        Source: spec/flux-v2.md 3.3, last paragraph of Inventory/GC.
        """
        now.silent = True
        if not now.typed.finalized:
            return
        inventory = Inventory.read(now.obj.get("status") or {})
        if now.typed.deletes and not now.typed.suspended and inventory.versions:
            await self._delete_all(now, inventory, slot)
        self._estate.forget(now.owner)
        await self._desk.remove_finalizer(KIND, now.obj, meta.STATUS_MANAGER)

    async def _delete_all(self, now: Pass, inventory: Inventory, slot: Slot) -> None:
        found = (now.obj.get("status") or {}).get("conditions") or []
        reason = str((conditions.get(found, conditions.READY) or {}).get("reason") or "info")
        now.run = replace(
            now.run, revision=str((now.obj.get("status") or {}).get("lastAppliedRevision") or "")
        )
        about = outcome.annotations_of(now.run)
        rights = self._rights(now.typed)
        if not await self._account_exists(now.typed):
            names = "\n".join(key.subject for key in inventory.versions)
            text = f"unable to prune objects: \n{names}\nthe service account to act as is gone; they are left"
            self._desk.tell(now.obj, Note("Warning", reason, text, about))
            return
        self._estate.forget(now.owner)
        changes, _, errors = await self._engine.prune(inventory.stale(()), inventory, rights)
        lines = [change.line for change in changes]
        if errors:
            text = "pruning for deleted resource failed\n" + "\n".join(errors)
            self._desk.tell(now.obj, Note("Warning", reason, text, about))
            raise Transient(f"delete failed, errors: {';'.join(errors)};", reason="PruneFailed")
        if lines:
            self._desk.tell(now.obj, Note("Normal", reason, "\n".join(lines), about))
        if now.typed.deletion_policy == "WaitForTermination":
            await self._wait_gone(now, [change for change in changes if change.action == "deleted"], slot)

    async def _account_exists(self, typed: Kustomization) -> bool:
        account = typed.spec.service_account_name or self._options.default_service_account
        if not account:
            return True
        try:
            await self._estate.cluster.client.get(GVK("", "v1", "ServiceAccount"), account, typed.namespace)
        except NotFound:
            return False
        return True

    async def _wait_gone(self, now: Pass, changes: Sequence[Change], slot: Slot) -> None:
        targets = [(GVK(c.key.group, c.version, c.key.kind), c.key) for c in changes]
        named = await watched_by_name(self._estate, targets)
        try:
            async with slot.released(), asyncio.timeout(now.run.timeout):
                for key, informer in named.items():
                    await informer.synced()
                    await wait_gone(informer, key)
        except TimeoutError:
            text = "failed to wait for resources termination"
            self._desk.tell(now.obj, Note("Warning", "Progressing", text, outcome.annotations_of(now.run)))
        finally:
            for informer in named.values():
                await self._estate.cluster.release(informer)


async def _nothing() -> None:
    """Do nothing, where a hook has nothing to do."""


def _quiet_hooks() -> Hooks:
    """Give hooks for repairs: nothing new is created, nobody is given way to."""

    async def before_write(_new: Mapping[ObjectKey, str]) -> None:
        return

    async def ready(_keys: Sequence[ObjectKey]) -> None:
        return

    return Hooks(before_write, lambda: None, ready)


def _settled(now: Pass, built: Built) -> bool:
    """Tell whether the status says that just this was applied successfully before.

    It is read from the object, not remembered, so that a restart knows it too.
    """
    status = now.obj.get("status") or {}
    history = status.get("history") or []
    return (
        not now.typed.requested
        and status.get("observedGeneration") == now.typed.generation
        and conditions.is_true(status.get("conditions") or [], conditions.READY)
        and status.get("lastAppliedRevision") == now.run.revision
        and bool(history)
        and history[0].get("digest") == built.digest
        and history[0].get("lastReconciledStatus") == "ReconciliationSucceeded"
    )


def _refuse_unsupported(typed: Kustomization) -> None:
    """Refuse what this version does not do, rather than do something else (law 2)."""
    for name, value, why in (
        ("kubeConfig", typed.spec.kube_config, "other clusters are not reached yet"),
        ("ignore", typed.spec.ignore, "drift-ignore rules are not followed yet"),
        ("decryption", typed.spec.decryption, "decryption is not done yet"),
    ):
        if value:
            raise Stalled(
                f"spec.{name} is not supported by this version of gitwright: {why}",
                reason="FeatureGateDisabled",
                place=f"spec.{name}",
                hint="leave this Kustomization to Flux, or remove the field",
            )


def _itself(key: ObjectKey, typed: Kustomization) -> bool:
    """Guard against an object that waits for itself."""
    return (
        key.kind == meta.KUSTOMIZATION
        and key.group == meta.KUSTOMIZE_GROUP
        and key.name == typed.name
        and key.namespace == typed.namespace
    )


def _ephemeral(steps: Iterable[Step]) -> frozenset[ObjectKey]:
    """Jobs with a time to live vanish when they are done, which counts as healthy."""
    return frozenset(
        step.key
        for step in steps
        if step.key.group == "batch"
        and step.key.kind == "Job"
        and b'"ttlSecondsAfterFinished"' in step.manifest.body
    )
