"""The reconciler of Kustomizations: from a source's artifact to applied, healthy objects.

Role in the flow: one run resolves, builds, plans, applies, prunes and waits, and raises
where it cannot go on; `conclude` turns what came of it into status and events. A settled
object costs nothing: drift is seen by the watch and repaired without a status write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from gitwright.api import meta
from gitwright.api.kinds import decode
from gitwright.api.kustomize import Kustomization
from gitwright.apply.engine import Hooks, Rights, known_kinds
from gitwright.apply.inventory import Inventory
from gitwright.apply.live import Owner
from gitwright.apply.plan import Plan
from gitwright.apply.prepare import CommonMetadata, declared_scopes, prepare
from gitwright.apply.wait import Wait
from gitwright.artifact.store import Artifact
from gitwright.controllers import conclude as outcome
from gitwright.controllers.building import Builder, Built
from gitwright.controllers.conclude import APPLYING, BUILDING, CHECKING, FETCHING, Pace, Run
from gitwright.controllers.crew import KIND, Crew, Pass
from gitwright.controllers.finalizing import Finalizer
from gitwright.controllers.health_checks import HealthChecker
from gitwright.controllers.references import (
    check_dependencies,
    no_artifact,
    resolve_source,
    source_ref,
    will_be_fetched,
)
from gitwright.controllers.repairing import Repairer
from gitwright.core import conditions, durations
from gitwright.core.errors import GitwrightError, Stalled, Transient
from gitwright.core.objects import GVK, JSON, Manifest, ObjectKey
from gitwright.health import Expressions
from gitwright.kube.client import Client
from gitwright.kube.errors import ApiError
from gitwright.notify.events import Note
from gitwright.runtime.controller import Outcome, Request, Slot, Superseded


class KustomizationReconciler:
    """Reconciles Kustomizations of one cluster.

    Args:
        crew: the shared tools.
        builder: renders.
    """

    def __init__(self, crew: Crew, builder: Builder) -> None:
        self._crew = crew
        self._builder = builder
        self._repairer = Repairer(crew)
        self._health = HealthChecker(crew, self._repairer)
        self._finalizer = Finalizer(crew)

    def unhealthy(self, owner: Owner) -> bool:
        """Tell whether a Kustomization failed its last health check, so that news may mend it."""
        # Not `memory`, which would remember every owner that a label names.
        memory = self._crew.recall(owner)
        return memory is not None and memory.unhealthy

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
        obj = self._crew.desk.find(KIND, request.namespace, request.name)
        if obj is None:
            self._crew.forget(Owner(request.namespace, request.name))
            return Outcome(gone=True)
        try:
            typed = decode(Kustomization, obj)
        except Stalled as wrong:
            return await self._conclude_undecoded(obj, wrong)
        pace = Pace(typed.interval, typed.retry_interval, self._crew.options.dependency)
        found = (obj.get("status") or {}).get("conditions") or []
        run = Run(
            timeout=typed.timeout(self._crew.options.timeout_floor),
            was_healthy=conditions.is_true(found, conditions.HEALTHY),
        )
        now = Pass(obj, typed, self._crew.desk.monotonic(), run)
        error: GitwrightError | None = None
        try:
            await self._pass(now, slot)
        except Superseded:
            self._crew.tell_applied(now)
            raise
        except ApiError as raised:
            error = _refused(raised)
        except GitwrightError as raised:
            error = raised
        except Exception as raised:
            # The controller logs it and backs off; the object must not look well meanwhile (S13).
            await self._conclude(now, outcome.unforeseen(raised, meta.RECONCILIATION_FAILED), pace)
            raise
        if error is None and now.silent:
            return Outcome(requeue_after=self._crew.desk.later(pace.interval, spread=True))
        return await self._conclude(now, error, pace)

    async def _conclude_undecoded(self, obj: JSON, error: Stalled) -> Outcome:
        end = outcome.conclude(obj, Run(), error, Pace(0.0, 0.0, 0.0), self._crew.desk.now())
        await self._crew.desk.write_status(obj, end.status, meta.STATUS_MANAGER)
        self._crew.desk.tell(obj, *end.notes)
        return Outcome()

    async def _conclude(self, now: Pass, error: GitwrightError | None, pace: Pace) -> Outcome:
        memory = self._crew.memory(now.owner)
        lines = tuple(now.done.lines()[now.told :])
        left_out = (*now.done.left_out(), *now.kept)
        if error is None and left_out != memory.left_out:
            # Told when it changes; it is the same at every pass.
            memory.left_out, lines = left_out, (*lines, *left_out)
        run = replace(now.run, applied=lines, seconds=self._crew.desk.monotonic() - now.started)
        end = outcome.conclude(now.obj, run, error, pace, self._crew.desk.now())
        memory.unhealthy = error is not None and error.reason == "HealthCheckFailed"
        self._crew.desk.log_outcome(now.obj, run.revision, error, run.seconds)
        await self._crew.desk.write_status(now.obj, end.status, meta.STATUS_MANAGER)
        self._crew.desk.tell(now.obj, *end.notes)
        if error is not None and now.typed.deleting:
            # A deletion must not hang for as long as an interval lasts.
            return Outcome(backoff=True)
        after = self._crew.desk.later(end.requeue_after, spread=error is None)
        return Outcome(requeue_after=after, backoff=end.backoff)

    async def _pass(self, now: Pass, slot: Slot) -> None:
        typed = now.typed
        if typed.deleting:
            await self._finalizer.finalize(now, slot)
            return
        if not typed.finalized:
            now.obj = await self._crew.desk.add_finalizer(KIND, now.obj, meta.STATUS_MANAGER)
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
        find = partial(self._crew.desk.find, KIND)
        check_dependencies(now.obj, typed.spec, ref, artifact.revision, find)
        rights = self._crew.rights(typed)
        now.run = replace(now.run, stage=FETCHING)
        built = await self._build(now, artifact, rights, slot)
        slot.stage()
        await self._converge(now, built, rights, slot)

    def _compile(self, now: Pass) -> None:
        """Compile the health expressions once per generation."""
        memory, generation = self._crew.memory(now.owner), f"{now.typed.metadata.uid}/{now.typed.generation}"
        if memory.judged == generation:
            return
        rules = (now.obj.get("spec") or {}).get("healthCheckExprs") or []
        compiled = Expressions.compile(rules) if rules else None
        self._crew.estate.judge(now.owner, compiled, generation)
        memory.judged = generation

    async def _artifact(self, now: Pass) -> Artifact | None:
        """Give the artifact, or None while this process has not taken it up yet."""
        typed = now.typed
        ref = source_ref(typed.spec, typed.namespace)
        find = partial(self._crew.desk.find, GVK(meta.SOURCE_GROUP, "v1", ref.kind))
        source = resolve_source(
            ref, typed.namespace, find, cross_namespace=self._crew.options.cross_namespace
        )
        shown = (source.get("status") or {}).get("artifact")
        if not shown:
            raise no_artifact(source, durations.show(self._crew.options.dependency))
        artifact = await self._crew.desk.artifact(ref.kind, ref.namespace, ref.name)
        if artifact is None or artifact.revision != shown.get("revision"):
            if will_be_fetched(source):
                # The status is there before this process has the files: the source's own run brings them.
                return None
            raise no_artifact(source, durations.show(self._crew.options.dependency))
        origin = (shown.get("metadata") or {}).get("org.opencontainers.image.revision", "")
        now.run = replace(now.run, revision=artifact.revision, origin=str(origin))
        return artifact

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
        if built.warnings:
            note = Note(
                "Warning", meta.BUILD_WARNING, "\n".join(built.warnings), outcome.annotations_of(now.run)
            )
            self._crew.desk.tell(now.obj, note)
        return built

    async def _converge(self, now: Pass, built: Built, rights: Rights, slot: Slot) -> None:
        """Plan, apply, prune and wait; or only repair, when nothing new is wanted."""
        wanted = await self._prepared(now, built, rights.client)
        old = Inventory.read(now.obj.get("status") or {})
        kinds = [manifest.gvk for manifest in wanted]
        await self._crew.estate.watch(await known_kinds(rights.client, kinds))
        await self._crew.engine.look(wanted, rights)
        settled = _settled(now, built)
        memory = self._crew.memory(now.owner)
        inputs = (now.typed.metadata.uid, now.typed.generation, now.run.revision, built.digest)
        renewed = not settled and memory.tried != inputs
        if renewed:
            memory.repairs.forget()
        plan = await self._crew.plan(now, wanted, renewed=renewed, settled=settled)
        self._crew.engine.adopt(plan, now.owner)
        if settled:
            await self._repairer.repair(now, plan, rights)
            if await self._health.healthy(now, plan, rights):
                now.silent = True
                return
            plan = await self._crew.plan(now, wanted, renewed=False, settled=True)
        stale = old.stale(manifest.key for manifest in wanted)
        if renewed or now.typed.requested:
            await self._apply(now, plan, rights, slot, old)
        else:
            # A run that comes again and again must not wage the war that repairs end.
            held = self._repairer.hold(now, plan, only_drift=True)
            plan = held.plan
            try:
                await self._apply(now, plan, rights, slot, old)
            finally:
                self._repairer.made(now, held, now.done)
        memory.tried = inputs
        await self._prune(now, plan, old, stale, rights)
        await self._health.check(now, plan, rights, slot)

    async def _prepared(self, now: Pass, built: Built, client: Client) -> tuple[Manifest, ...]:
        memory, common = self._crew.memory(now.owner), now.typed.spec.common_metadata
        token = f"{built.digest}/{now.typed.metadata.uid}/{now.typed.generation}"
        if memory.prepared[0] == token:
            return memory.prepared[1]
        scopes = await _scopes(built.manifests, client)
        scoped = frozenset(gvk for gvk, namespaced in scopes.items() if not namespaced)
        metadata = (
            CommonMetadata(common.labels or {}, common.annotations or {}) if common else CommonMetadata()
        )
        ready = await asyncio.to_thread(prepare, built.manifests, now.owner, metadata, scoped)
        if all(manifest.gvk in scopes for manifest in built.manifests):
            # Not while a kind is unknown: with its scope its objects' identity may change.
            memory.prepared = (token, ready)
        return ready

    async def _apply(self, now: Pass, plan: Plan, rights: Rights, slot: Slot, old: Inventory) -> None:
        waits = now.typed.spec.wait or bool(now.typed.spec.health_checks)

        async def before_write(new: Mapping[ObjectKey, str]) -> None:
            union = old.with_all(new)
            if union.versions == old.versions:
                return
            # Old and new together, before the first create: a kill leaves nothing forgotten.
            now.run = replace(now.run, inventory=union, stage=CHECKING if waits else APPLYING)
            await self._crew.progress(now, healthy=waits)
            now.run = replace(now.run, stage=APPLYING)

        async def ready(keys: Sequence[ObjectKey]) -> None:
            wait = Wait(self._crew.estate, now.owner, keys)
            async with slot.released():
                verdict = await wait.run(60.0, interrupted=slot.stage, newer=slot.newer, on_drift=_nothing)
            if not verdict.healthy:
                raise Transient(verdict.message, reason="ReconciliationFailed", detail=verdict.detail)

        hooks = Hooks(before_write, slot.stage, ready)
        await self._crew.engine.apply(plan, rights, hooks, now.done)
        entries = [(change.key, change.version) for change in now.done.changes]
        now.run = replace(
            now.run, inventory=Inventory.of(entries, old.unread), drifted=bool(now.done.lines())
        )

    async def _prune(
        self, now: Pass, plan: Plan, old: Inventory, stale: Sequence[ObjectKey], rights: Rights
    ) -> None:
        if not stale or not now.typed.spec.prune:
            return
        # Before they go, so that nobody takes that for drift.
        self._crew.estate.forget(now.owner, stale)
        wanted = [step.key for step in plan.steps()]
        changes, survivors, errors = await self._crew.engine.prune(stale, old, rights, wanted)
        kept = [change.key for change in changes if change.keep]
        now.kept = tuple(change.line for change in changes if change.keep)
        inventory = now.run.inventory or old
        more = {key: old.versions[key] for key in [*kept, *survivors]}
        now.run = replace(
            now.run,
            inventory=inventory.with_all(more),
            pruned=tuple(
                change.line for change in changes if not change.keep and change.action != "unchanged"
            ),
        )
        if errors:
            raise Transient(f"delete failed, errors: {';'.join(errors)};", reason="PruneFailed")


async def _scopes(manifests: Sequence[Manifest], client: Client) -> dict[GVK, bool]:
    """Find out which kinds are namespaced; one that nobody serves or defines is left out."""
    scopes = await asyncio.to_thread(declared_scopes, manifests)
    for gvk in await known_kinds(client, [manifest.gvk for manifest in manifests]):
        scopes[gvk] = (await client.mapper.resource(gvk)).namespaced
    return scopes


def _refused(error: ApiError) -> Transient:
    """Word what the API server refused outside of an object's own apply; rights may be given any time."""
    return Transient(
        error.message,
        reason=meta.RECONCILIATION_FAILED,
        place=error.place,
        detail=error.detail,
        hint=error.hint,
        retry_after=error.retry_after,
    )


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


async def _nothing() -> None:
    """Do nothing on a wake, and ask for no other."""
