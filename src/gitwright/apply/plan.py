"""From wanted and live objects to a plan: pure, decided before anything is written.

Role in the flow: the reconciler renders, `make_plan` decides per object, the engine
lets the API server check the new and changed ones and then applies exactly these.
It knows no cluster and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gitwright.apply.live import FLUX_CONTROLLER, Live, Owner, fits, marks_of
from gitwright.core.objects import GroupKind, Manifest, ObjectKey, sort_manifests

Action = Literal["created", "configured", "unchanged", "deleted", "skipped"]
Verdict = Literal["skip", "keep", "check", "repair"]

_DEFINITIONS = {"CustomResourceDefinition", "Namespace", "ClusterRole"}
STANDS_IN = "a controller of Flux itself, which gitwright stands in for"


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one object.

    Args:
        key: the object.
        version: API version it was addressed by, without group.
        action: what was done.
        why: why, where that is not obvious.
        keep: a stale object that stays in the inventory although it was not deleted.
    """

    key: ObjectKey
    version: str
    action: Action
    why: str = ""
    keep: bool = False

    @property
    def line(self) -> str:
        """The line of Flux's change log: `Kind/namespace/name action`."""
        return f"{self.key.subject} {self.action}"


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What was done to all objects, in order."""

    entries: tuple[Change, ...] = ()

    def changed(self) -> tuple[Change, ...]:
        """Those that were written."""
        return tuple(entry for entry in self.entries if entry.action not in ("unchanged", "skipped"))

    def __add__(self, other: ChangeSet) -> ChangeSet:
        return ChangeSet(self.entries + other.entries)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server made of our last apply of an object.

    Args:
        manifest: digest of the manifest that was applied.
        owned: `Live.owned` of the server's answer.
    """

    manifest: str
    owned: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one wanted object.

    Args:
        manifest: the wanted object.
        live: what the cluster has, where the watch knows it.
        verdict: `skip` (opted out), `keep` (equal), `check` (new or changed: a dry run
            comes first), `repair` (drift of an accepted object: applied at once).
        why: the reason, for logs and previews.
    """

    manifest: Manifest
    live: Live | None
    verdict: Verdict
    why: str = ""

    @property
    def key(self) -> ObjectKey:
        """Identity of the object."""
        return self.manifest.key


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, by stage: definitions, classes, custom stages, everything else."""

    stages: tuple[tuple[Step, ...], ...]

    def steps(self) -> Iterable[Step]:
        """All steps in order."""
        return (step for stage in self.stages for step in stage)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be written or asked."""
        return all(step.verdict in ("skip", "keep") for step in self.steps())


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What decides beside the objects.

    Args:
        owner: the Kustomization that plans.
        renewed: a new revision or spec, so objects of another owner are taken and
            fields of other appliers are removed.
        forced: a reconciliation was asked for: other appliers' fields are removed.
        trusted: the manifests were applied successfully before, so that a difference
            is drift and is repaired without a dry run.
        custom_stages: kinds that have a stage of their own.
        ended: owners that do not exist (any more): what carries their labels is anybody's,
            so that a label alone, written by hand, takes no object away from us.
    """

    owner: Owner
    renewed: bool
    forced: bool
    trusted: bool
    custom_stages: frozenset[GroupKind] = frozenset()
    ended: frozenset[Owner] = frozenset()


def make_plan(
    wanted: Iterable[Manifest],
    live: Mapping[ObjectKey, Live],
    answers: Mapping[ObjectKey, Answer],
    options: PlanOptions,
) -> Plan:
    """Decide what to do about each wanted object.

    Args:
        wanted: normalised manifests with their owner labels.
        live: what the watches know, by key.
        answers: what the server answered to the last applies, by key.
        options: see `PlanOptions`.

    Source of the rules: design, sections 1 and 4; spec/flux-v2.md 3.3.
    """
    stages: list[list[Step]] = [[], [], [], []]
    for manifest in sort_manifests(wanted):
        step = _decide(manifest, live.get(manifest.key), answers.get(manifest.key), options)
        stages[stage_of(manifest.key, options.custom_stages)].append(step)
    return Plan(tuple(tuple(stage) for stage in stages))


def stage_of(key: ObjectKey, custom: frozenset[GroupKind] = frozenset()) -> int:
    """Give the number of the stage an object is applied in, from 0 to 3."""
    if key.kind in _DEFINITIONS:
        return 0
    if key.kind.endswith("Class"):
        return 1
    return 2 if key.group_kind in custom else 3


def _decide(manifest: Manifest, live: Live | None, answer: Answer | None, options: PlanOptions) -> Step:
    if _plainly_equal(manifest, live, answer, options):
        return Step(manifest, live, "keep")
    body = manifest.load()
    wish = marks_of(body)
    why = opted_out(wish, live.marks if live else frozenset())
    if why:
        return Step(manifest, live, "skip", why)
    if live is None:
        repair = options.trusted and answer is not None and answer.manifest == manifest.digest
        return Step(manifest, None, "repair" if repair else "check", "missing")
    if "ssa=ifnotpresent" in wish:
        return Step(manifest, live, "skip", "exists already and is applied only if not present")
    if live.owner != options.owner and live.owner not in options.ended and not options.renewed:
        return Step(manifest, live, "keep", f"belongs to Kustomization {live.owner} now")
    tidy = (options.renewed or options.forced) and to_tidy(wish, live)
    if live.deleting:
        return Step(manifest, live, "keep" if options.trusted else "check", "is being deleted")
    if answer is not None and answer.manifest == manifest.digest:
        if answer.owned == live.owned and not tidy:
            return Step(manifest, live, "keep")
        return Step(manifest, live, "repair" if options.trusted else "check", "differs from our last apply")
    if answer is None and not tidy and live.owner == options.owner and fits(body, live.owned):
        return Step(manifest, live, "keep")
    return Step(manifest, live, "check", "changed")


def _plainly_equal(
    manifest: Manifest, live: Live | None, answer: Answer | None, options: PlanOptions
) -> bool:
    """Tell without reading the manifest that nothing is to be done; the case of every settled object."""
    return (
        live is not None
        and answer is not None
        and answer.manifest == manifest.digest
        and answer.owned == live.owned
        and live.owner == options.owner
        and not live.deleting
        and not live.marks
        and not (live.untidy and (options.renewed or options.forced))
    )


def to_tidy(wish: frozenset[str], live: Live) -> bool:
    """Tell whether an apply must remove what other appliers own or left.

    Not where `ssa: Merge` stands on the wanted or the live object: a manifest that just
    lost it still merges once. Source: spec/flux-v2.md 3.3 item 8; recording object-annotations.
    """
    return live.untidy and "ssa=merge" not in wish and "ssa=merge" not in live.marks


def opted_out(wish: frozenset[str], live: frozenset[str]) -> str:
    """Say why an object is neither applied nor pruned, or nothing.

    Source: spec/flux-v2.md 3.3, annotations `reconcile: disabled` and `ssa: Ignore`,
    on the wanted or the live object. The Deployments of Flux's controllers are in every
    bootstrapped repository; applying or pruning them would start or end the other
    engine (design, section 4).
    """
    if FLUX_CONTROLLER in wish or FLUX_CONTROLLER in live:
        return STANDS_IN
    for marks, place in ((wish, "in Git"), (live, "in the cluster")):
        if "reconcile=disabled" in marks:
            return f"reconcile is disabled {place}"
        if "ssa=ignore" in marks:
            return f"ssa is Ignore {place}"
    return ""


def may_delete(live: Live, owner: Owner) -> str:
    """Say why a stale object must not be deleted, or nothing.

    Source: spec/flux-v2.md 3.3, Inventory/GC: both owner labels must still match and
    the live object must not have opted out.
    """
    if live.owner != owner:
        return f"belongs to {live.owner}" if live.owner.name else "does not carry our owner labels"
    if FLUX_CONTROLLER in live.marks:
        return "is a controller of Flux itself"
    for mark in ("prune=disabled", "reconcile=disabled", "ssa=ignore"):
        if mark in live.marks:
            return f"has opted out by {mark}"
    return ""
