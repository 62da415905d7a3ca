"""Health: what a Kustomization waits for before it is ready.

Role in the flow: after apply and prune. The worker is given back while it waits; drift
is repaired meanwhile; newer input ends the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from gitwright.api import meta
from gitwright.api.kustomize import Kustomization
from gitwright.apply.engine import Rights
from gitwright.apply.live import Owner
from gitwright.apply.plan import Plan, Step
from gitwright.apply.wait import Wait, watched_by_name
from gitwright.controllers import conclude as outcome
from gitwright.controllers.conclude import CHECKING
from gitwright.controllers.crew import Crew, Pass
from gitwright.controllers.repairing import Repairer
from gitwright.core import conditions, durations
from gitwright.core.errors import Denied, Transient
from gitwright.core.objects import GVK, ObjectKey
from gitwright.kube.errors import NotFound
from gitwright.runtime.controller import Slot

# A wait that lasts longer than this is told of before it ends, which costs one event more. Below Flux's
# least time limit, so that what was applied is told before any wait has failed.
PATIENCE = 20.0

Release = Callable[[], Awaitable[None]]


class HealthChecker:
    """Checks the health that a spec asks for.

    Args:
        crew: the shared tools.
        repairer: repairs drift while a wait goes on.
    """

    def __init__(self, crew: Crew, repairer: Repairer) -> None:
        self._crew = crew
        self._repairer = repairer

    async def healthy(self, now: Pass, plan: Plan, rights: Rights) -> bool:
        """Tell whether everything that the spec asks for is healthy now."""
        if not (now.typed.spec.wait or now.typed.spec.health_checks):
            return True
        wait, release = await self._wait(now, plan, rights)
        try:
            return wait.settled()
        finally:
            await release()

    async def _wait(self, now: Pass, plan: Plan, rights: Rights) -> tuple[Wait, Release]:
        """Make the wait that the spec asks for, and the way to end its watches."""
        spec = now.typed.spec
        own = {step.key: step for step in plan.steps() if step.verdict != "skip"}
        if spec.wait:
            skipped = {change.key for change in now.done.changes if change.action == "skipped"}
            keys = [key for key in own if key not in skipped and not _itself(key, now.typed)]
            await self._judge_anew(now.owner, {key: own[key].manifest.gvk for key in keys}, rights)
            return Wait(self._crew.estate, now.owner, keys, ephemeral=_ephemeral(own.values())), _nothing
        refs = [
            (
                check.gvk,
                ObjectKey(check.gvk.group, check.kind, check.namespace or now.typed.namespace, check.name),
            )
            for check in spec.health_checks
        ]
        refs = [(gvk, key) for gvk, key in refs if not _itself(key, now.typed)]
        mine = [key for _, key in refs if key in own]
        await self._judge_anew(now.owner, {key: own[key].manifest.gvk for key in mine}, rights)
        others = [(gvk, key) for gvk, key in refs if key not in own]
        await self._may_look(others, rights)
        named = await watched_by_name(self._crew.estate, others)

        async def release() -> None:
            for informer in named.values():
                await self._crew.estate.cluster.release(informer)

        for informer in named.values():
            try:
                await informer.synced(10.0)
            except TimeoutError:
                continue
            except BaseException:
                await release()
                raise
        return Wait(self._crew.estate, now.owner, mine, named), release

    async def _judge_anew(self, owner: Owner, kinds: Mapping[ObjectKey, GVK], rights: Rights) -> None:
        """Look again at objects that were judged by other expressions than the present ones."""
        for live in self._crew.estate.misjudged(owner, kinds):
            try:
                found = await rights.client.get(kinds[live.key], live.key.name, live.key.namespace)
            except NotFound:
                continue
            self._crew.estate.learn(found)

    async def _may_look(self, others: Sequence[tuple[GVK, ObjectKey]], rights: Rights) -> None:
        """Let the tenant's own rights decide what health shows (S28)."""
        if rights.client is self._crew.estate.cluster.client:
            return
        for gvk, key in others:
            try:
                await rights.client.get(gvk, key.name, key.namespace)
            except NotFound:
                continue
            except Denied as error:
                raise Transient(
                    f"health check failed: {error.message}",
                    reason="HealthCheckFailed",
                    subject=key.subject,
                    hint="let the service account read what spec.healthChecks names",
                ) from error

    async def check(self, now: Pass, plan: Plan, rights: Rights, slot: Slot) -> None:
        """Wait until all that the spec asks for is healthy.

        Raises:
            Transient: it was not in time, or something failed; reason HealthCheckFailed.
            Superseded: newer input ends the wait.
        """
        spec = now.typed.spec
        if not (spec.wait or spec.health_checks):
            return
        now.run = replace(now.run, stage=CHECKING, checked=True)
        wait, release = await self._wait(now, plan, rights)
        started = self._crew.desk.monotonic()
        try:
            if not wait.settled():
                await self._wait_healthy(now, wait, plan, rights, slot)
        finally:
            await release()
        took = durations.show(round(self._crew.desk.monotonic() - started, 6))
        now.run = replace(now.run, health=f"Health check passed in {took}")

    async def _wait_healthy(self, now: Pass, wait: Wait, plan: Plan, rights: Rights, slot: Slot) -> None:
        found = (now.obj.get("status") or {}).get("conditions") or []
        healthy = conditions.get(found, conditions.HEALTHY) or {}
        if healthy.get("status") != "Unknown" or healthy.get("message") != outcome.stage_text(now.run):
            await self._crew.progress(now, healthy=True)
        started = self._crew.desk.monotonic()
        wanted = [step.manifest for step in plan.steps()]

        async def on_drift() -> float | None:
            again = await self._crew.plan(now, wanted, renewed=False, settled=True)
            return await self._repairer.repair(now, again, rights)

        teller = asyncio.create_task(self._tell_late(now))
        try:
            async with slot.released():
                verdict = await wait.run(
                    now.run.timeout, interrupted=slot.stage, newer=slot.newer, on_drift=on_drift
                )
        finally:
            teller.cancel()
        if not verdict.healthy:
            took = durations.show(round(self._crew.desk.monotonic() - started, 6))
            raise Transient(
                f"health check failed after {took}: {verdict.message}",
                reason="HealthCheckFailed",
                detail=verdict.detail,
            )

    async def _tell_late(self, now: Pass) -> None:
        """Tell what was applied while the wait goes on, so that nobody wonders."""
        await asyncio.sleep(PATIENCE)
        self._crew.tell_applied(now)


async def _nothing() -> None:
    """Do nothing, where a hook has nothing to do."""


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
