"""Repairs of drift: what a settled Kustomization does when its objects were changed.

Role in the flow: the watch saw a difference; this part applies again what was accepted
before, tells of it, and steps back where somebody keeps undoing it. It writes no status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitwright.api import meta
from gitwright.apply.engine import Applied, Hooks, Rights
from gitwright.apply.plan import Plan, Step
from gitwright.controllers import conclude as outcome
from gitwright.controllers.crew import KIND, Crew, Pass
from gitwright.core import durations
from gitwright.core.objects import ObjectKey
from gitwright.notify.events import Note


class Repairer:
    """Repairs drifted objects.

    Args:
        crew: the shared tools.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    async def repair(self, now: Pass, plan: Plan, rights: Rights) -> None:
        """Restore drifted objects, unless somebody keeps undoing it."""
        memory, moment = self._crew.memory(now.owner), self._crew.desk.monotonic()
        ceiling = max(now.typed.interval, 60.0)
        stages: list[tuple[Step, ...]] = []
        due: list[tuple[ObjectKey, tuple[str, ...]]] = []
        later: list[float] = []
        for stage in plan.stages:
            kept = []
            for step in stage:
                if step.verdict not in ("repair", "check"):
                    continue
                paths = self._crew.engine.drift(step, now.owner)
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
            self._crew.desk.again(KIND, now.typed.namespace, now.typed.name, min(later))
        if not due:
            return
        done = Applied()
        try:
            await self._crew.engine.apply(Plan(tuple(stages)), rights, _quiet_hooks(), done)
        finally:
            if lines := done.lines():
                note = Note("Normal", "Progressing", "\n".join(lines), outcome.annotations_of(now.run))
                self._crew.desk.tell(now.obj, note)
                self._crew.desk.log_repair(now.obj, now.run.revision, lines)
            written = {change.key for change in done.changes if change.action != "unchanged"}
            for key, paths in due:
                if key in written:
                    memory.repairs.made(key, paths, self._crew.desk.monotonic(), ceiling)

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
