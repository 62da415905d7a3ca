"""Repairs of drift: what a settled Kustomization does when its objects were changed.

Role in the flow: the watch saw a difference; this part applies again what was accepted
before, tells of it, and steps back where somebody keeps undoing it. It writes no status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gitwright.api import meta
from gitwright.apply.engine import Applied, Hooks, Rights
from gitwright.apply.plan import Plan, Step
from gitwright.controllers import conclude as outcome
from gitwright.controllers.crew import KIND, Crew, Pass
from gitwright.core import durations
from gitwright.core.objects import ObjectKey
from gitwright.notify.events import Note


@dataclass(frozen=True, slots=True)
class Held:
    """A plan without what must wait.

    Args:
        plan: the plan; what must wait is kept as it is.
        due: the repairs that may be made now, with the fields they are about.
        later: seconds until the first of the others may be made, or None.
    """

    plan: Plan
    due: Mapping[ObjectKey, tuple[str, ...]]
    later: float | None


class Repairer:
    """Repairs drifted objects.

    Args:
        crew: the shared tools.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    async def repair(self, now: Pass, plan: Plan, rights: Rights) -> float | None:
        """Restore drifted objects, unless somebody keeps undoing it.

        Returns:
            Seconds until the first of those that were left alone is due, or None.
        """
        held = self.hold(now, plan, only_drift=False)
        if not held.due:
            return held.later
        wanted = Plan(tuple(tuple(step for step in stage if step.key in held.due) for stage in plan.stages))
        done = Applied()
        try:
            await self._crew.engine.apply(wanted, rights, _quiet_hooks(), done)
        finally:
            if lines := done.lines():
                note = Note("Normal", "Progressing", "\n".join(lines), outcome.annotations_of(now.run))
                self._crew.desk.tell(now.obj, note)
                self._crew.desk.log_repair(now.obj, now.run.revision, lines)
            self.made(now, held, done)
        return held.later

    def hold(self, now: Pass, plan: Plan, *, only_drift: bool) -> Held:
        """Leave alone, for now, what somebody keeps undoing.

        Args:
            now: the run.
            plan: what is to be done.
            only_drift: look only at what our last apply had right; else at all that is not equal.
        """
        memory, moment = self._crew.memory(now.owner), self._crew.desk.monotonic()
        answers = self._crew.estate.answers(now.owner)
        stages: list[tuple[Step, ...]] = []
        due: dict[ObjectKey, tuple[str, ...]] = {}
        later: list[float] = []
        for stage in plan.stages:
            steps = list(stage)
            for place, step in enumerate(stage):
                if step.verdict not in ("repair", "check"):
                    continue
                answer = answers.get(step.key)
                if only_drift and (answer is None or answer.manifest != step.manifest.digest):
                    continue
                paths = self._crew.engine.drift(step, now.owner)
                verdict = memory.repairs.ask(step.key, paths, moment)
                if verdict.warn:
                    self._warn(now, step, paths, verdict.wait)
                if verdict.wait > 0:
                    later.append(verdict.wait)
                    steps[place] = replace(step, verdict="keep", why="is changed back again and again")
                else:
                    due[step.key] = paths
            stages.append(tuple(steps))
        if later:
            self._crew.desk.again(KIND, now.typed.namespace, now.typed.name, min(later))
        return Held(Plan(tuple(stages)), due, min(later, default=None))

    def made(self, now: Pass, held: Held, done: Applied) -> None:
        """Note which of the repairs that were due have been made."""
        repairs, ceiling = self._crew.memory(now.owner).repairs, max(now.typed.interval, 60.0)
        written = {change.key for change in done.changes if change.action != "unchanged"}
        for key, paths in held.due.items():
            if key in written:
                repairs.made(key, paths, self._crew.desk.monotonic(), ceiling)

    def _warn(self, now: Pass, step: Step, paths: tuple[str, ...], wait: float) -> None:
        others = ", ".join(step.live.others) if step.live and step.live.others else "another writer"
        fields = ", ".join(path.lstrip(".") for path in paths) or "the object itself"
        text = (
            f"{step.key.subject} is changed back again and again: {fields} by {others}; "
            f"next repair in {durations.show(round(max(wait, 0.0), 1))}\n"
            "hint: change it in Git, or let the other writer own the field by removing it from Git"
        )
        self._crew.desk.tell(
            now.obj, Note("Warning", meta.DRIFT_REPEATED, text, outcome.annotations_of(now.run))
        )
        self._crew.memory(now.owner).repairs.warned(step.key, paths)


def _quiet_hooks() -> Hooks:
    """Give hooks for repairs: nothing new is created, nobody is given way to."""

    async def before_write(_new: Mapping[ObjectKey, str]) -> None:
        return

    async def ready(_keys: Sequence[ObjectKey]) -> None:
        return

    return Hooks(before_write, lambda: None, ready)
