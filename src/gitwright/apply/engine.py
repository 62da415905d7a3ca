"""The staged apply: dry run of a stage, then its writes; prune; recreation.

Role in the flow: carries out a plan as the tenant and tells what was done. It
renders nothing and writes no status; what must be recorded before the first write
it asks for through `Hooks.before_write`.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import orjson

from gitwright.apply.estate import Estate
from gitwright.apply.inventory import Inventory
from gitwright.apply.live import FIELD_MANAGER, Live, Owner, differing, marks_of
from gitwright.apply.plan import (
    STANDS_IN,
    Answer,
    Change,
    ChangeSet,
    Plan,
    Step,
    opted_out,
    to_tidy,
)
from gitwright.apply.prune import Pruned, prune
from gitwright.apply.wait import wait_gone, watched_by_name
from gitwright.core.errors import GitwrightError, Transient
from gitwright.core.objects import GVK, JSON, Manifest, ObjectKey
from gitwright.kube import fields
from gitwright.kube.client import Client
from gitwright.kube.errors import ApiError, Conflict, Invalid, NoKindMatch, NotFound

# Of a write that is bound to a resource version.
TRIES = 5
SLICE = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the engine asks of the run that drives it.

    Args:
        before_write: called with all keys and versions that this run may create,
            once, before its first write.
        between: called between stages; may raise to give way to newer input.
        ready: waits until the objects of a stage are ready; raises when they are not in time.
    """

    before_write: Callable[[Mapping[ObjectKey, str]], Awaitable[None]]
    between: Callable[[], None]
    ready: Callable[[Sequence[ObjectKey]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rights:
    """In whose name the engine acts.

    Args:
        client: the client to write with, impersonating the tenant where one is named.
        owner: the Kustomization.
        force: recreate objects whose immutable fields changed.
    """

    client: Client
    owner: Owner
    force: bool


@dataclass(frozen=True, slots=True)
class _Checked:
    """A step whose dry run was accepted.

    Args:
        step: the step.
        exists: whether the object is there.
        same: whether applying it would change nothing that we own.
        skipped: why it is left alone after all, or empty.
        recreate: whether it must be deleted first.
    """

    step: Step
    exists: bool
    same: bool = False
    skipped: str = ""
    recreate: bool = False

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return not self.same and not self.skipped


@dataclass(slots=True)
class Applied:
    """What a run has done so far; read also when it ends in an error."""

    changes: list[Change] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Lines of the change log for what was written."""
        return [change.line for change in ChangeSet(tuple(self.changes)).changed()]

    def left_out(self) -> list[str]:
        """Lines for Flux's own controllers, which are left out and shown as such (design, section 4)."""
        return [change.line for change in self.changes if change.why == STANDS_IN]


class Engine:
    """Applies plans to one cluster.

    Args:
        estate: the managed objects of the cluster.
        concurrency: dry runs and writes of one stage at the same time.
    """

    def __init__(self, estate: Estate, concurrency: int = 4) -> None:
        self.estate = estate
        self._width = concurrency

    async def apply(self, plan: Plan, rights: Rights, hooks: Hooks, done: Applied) -> ChangeSet:
        """Carry out a plan stage by stage.

        Args:
            plan: what to do.
            rights: in whose name.
            hooks: see `Hooks`.
            done: filled in as things are written.

        Raises:
            Transient: an object was refused; the message is Flux's. Nothing of its
                stage was written.
        """
        announced = False

        async def announce() -> None:
            nonlocal announced
            if not announced:
                announced = True
                new = {step.key: step.manifest.gvk.version for step in plan.steps() if step.verdict != "skip"}
                await hooks.before_write(new)

        for number, stage in enumerate(plan.stages):
            hooks.between()
            await self.estate.watch(await known_kinds(rights.client, (step.manifest.gvk for step in stage)))
            checked = await self._check(stage, rights)
            await self._write(checked, rights, announce, done)
            if number < 2 and stage:
                await hooks.ready([change.key for change in done.changes if change.action != "skipped"])
        return ChangeSet(tuple(done.changes))

    async def look(self, wanted: Iterable[Manifest], rights: Rights) -> None:
        """Look once at what was applied before and no watch shows (design, section 4).

        Raises:
            ApiError: it may not be read.
        """
        for manifest in wanted:
            known = self.estate.find(manifest.key)
            if known is None or self.estate.covers(manifest.gvk):
                continue
            try:
                found = await rights.client.get(manifest.gvk, manifest.key.name, manifest.key.namespace)
            except NotFound:
                self.estate.lost(manifest.key, known.uid)
            else:
                self.estate.learn(found)

    def adopt(self, plan: Plan, owner: Owner) -> None:
        """Take what is equal as the answer to an apply, so that later drift from it is seen."""
        answers = self.estate.answers(owner)
        for step in plan.steps():
            if step.verdict == "keep" and step.live is not None and step.live.owner == owner:
                answer = Answer(step.manifest.digest, step.live.owned)
                if answers.get(step.key) != answer:
                    self.estate.answered(owner, step.key, answer)

    def drift(self, step: Step, owner: Owner) -> tuple[str, ...]:
        """Name the fields in which a live object differs from the answer to our last apply."""
        answer = self.estate.answers(owner).get(step.key)
        if step.live is None or answer is None:
            return ()
        return differing(answer.owned, step.live.owned)

    async def _check(self, stage: Sequence[Step], rights: Rights) -> list[_Checked]:
        """Dry-run what is new or changed; raises the first refusal, naming the others."""
        gate = asyncio.Semaphore(self._width)

        async def one(step: Step) -> _Checked | GitwrightError:
            async with gate:
                try:
                    return await self._dry_run(step, rights)
                except GitwrightError as error:
                    return error

        checked: list[_Checked] = []
        refused: list[GitwrightError] = []
        for some in _slices(stage):
            # What needs no request costs no task: of a thousand objects a commit changes few.
            asked = iter(await asyncio.gather(*(one(step) for step in some if step.verdict == "check")))
            for step in some:
                result = next(asked) if step.verdict == "check" else _unasked(step)
                if isinstance(result, GitwrightError):
                    refused.append(result)
                else:
                    checked.append(result)
        if refused:
            raise _refusal(refused)
        return checked

    async def _dry_run(self, step: Step, rights: Rights) -> _Checked:
        try:
            answer = await self._send(step.manifest, rights, dry_run=True)
        except ApiError as error:
            force = rights.force or "force=enabled" in marks_of(step.manifest.load())
            force = force or (step.live is not None and "force=enabled" in step.live.marks)
            if force and error.is_immutable and await self._exists(step, rights):
                return _Checked(step, exists=True, recreate=True)
            raise _dry_run_error(step.manifest, error) from error
        exists = bool((answer.get("metadata") or {}).get("resourceVersion"))
        wish = marks_of(step.manifest.load())
        why = opted_out(frozenset(), marks_of(answer)) if exists else ""
        if exists and not why and "ssa=ifnotpresent" in wish:
            why = "exists already and is applied only if not present"
        if why:
            return _Checked(step, exists=True, skipped=why)
        live = step.live
        if live is None and exists and not self.estate.covers(step.manifest.gvk):
            # No watch may show this kind, so it is looked at once per pass (design, section 4).
            try:
                found = await rights.client.get(step.manifest.gvk, step.key.name, step.key.namespace)
            except NotFound:
                return _Checked(step, exists=False)
            live = self.estate.learn(found)
            step = replace(step, live=live)
        tidy = live is not None and to_tidy(wish, live)
        same = live is not None and not tidy and self.estate.project(answer).owned == live.owned
        return _Checked(step, exists=exists, same=same and live is not None and live.owner == rights.owner)

    async def _exists(self, step: Step, rights: Rights) -> bool:
        if step.live is not None:
            return True
        try:
            await rights.client.get(step.manifest.gvk, step.key.name, step.key.namespace)
        except NotFound:
            return False
        return True

    async def _write(
        self,
        checked: Sequence[_Checked],
        rights: Rights,
        announce: Callable[[], Awaitable[None]],
        done: Applied,
    ) -> None:
        gate = asyncio.Semaphore(self._width)

        async def one(item: _Checked) -> Change | GitwrightError:
            async with gate:
                try:
                    return await self._one(item, rights)
                except GitwrightError as error:
                    return error

        if any(item.writes for item in checked):
            await announce()
        failed: list[GitwrightError] = []
        # Kinds go one after another, as Flux applies them; objects of one kind together.
        for group in _runs(checked):
            for some in _slices(group):
                asked = iter(await asyncio.gather(*(one(item) for item in some if item.writes)))
                for item in some:
                    result = next(asked) if item.writes else self._left(item, rights)
                    if isinstance(result, Change):
                        done.changes.append(result)
                    else:
                        failed.append(result)
                if failed:
                    break
            if failed:
                raise failed[0]

    def _left(self, item: _Checked, rights: Rights) -> Change:
        """Take note of an object that is not written."""
        step, manifest = item.step, item.step.manifest
        if item.skipped:
            return Change(step.key, manifest.gvk.version, "skipped", item.skipped)
        if step.live is not None and step.live.owner == rights.owner:
            answer = Answer(manifest.digest, step.live.owned)
            if self.estate.answers(rights.owner).get(step.key) != answer:
                self.estate.answered(rights.owner, step.key, answer)
        return Change(step.key, manifest.gvk.version, "unchanged", step.why)

    async def _one(self, item: _Checked, rights: Rights) -> Change:
        step, manifest = item.step, item.step.manifest
        version = manifest.gvk.version
        if item.recreate:
            await self._remove(step, rights)
            item = _Checked(step, exists=False)
        elif item.exists:
            await self._tidy(step, rights)
        try:
            live = self.estate.learn(await self._send(manifest, rights, dry_run=False))
        except ApiError as error:
            raise Transient(
                f"{step.key.subject} apply failed: {_scrub(manifest, error.message)}",
                reason="ReconciliationFailed",
                subject=step.key.subject,
                place=_places(error),
                hint=_hint(error),
            ) from error
        self.estate.answered(rights.owner, step.key, Answer(manifest.digest, live.owned))
        return Change(step.key, version, "configured" if item.exists else "created", step.why)

    async def _send(self, manifest: Manifest, rights: Rights, *, dry_run: bool) -> JSON:
        return await rights.client.apply(
            manifest.body,
            manifest.gvk,
            manifest.key.name,
            manifest.key.namespace,
            field_manager=FIELD_MANAGER,
            force=True,
            dry_run=dry_run,
        )

    async def _tidy(self, step: Step, rights: Rights) -> None:
        """Take over the fields of other appliers, so that the apply removes what Git lacks.

        Source: spec/flux-v2.md 3.3 item 8.
        """
        live, key, gvk = step.live, step.key, step.manifest.gvk
        wish = marks_of(step.manifest.load())
        if live is None and "ssa=merge" in wish:
            return
        for attempt in range(1, TRIES + 1):
            if live is None:
                # Not ours until now, or changed meanwhile, so what the watch showed will not do.
                try:
                    live = self.estate.project(await rights.client.get(gvk, key.name, key.namespace))
                except NotFound:
                    return
            if not to_tidy(wish, live):
                return
            patch = self._tidying(live)
            try:
                await rights.client.patch(
                    gvk, key.name, key.namespace, patch, kind="json", field_manager=FIELD_MANAGER
                )
                return
            except NotFound:
                return
            except ApiError as error:
                # Controllers write a workload's status all the time, most of all after an edit;
                # and what was to be removed may have been removed meanwhile.
                if isinstance(error, Conflict | Invalid) and attempt < TRIES:
                    live = None
                    continue
                raise Transient(
                    f"{key.subject} metadata.managedFields cleanup failed: {error.message}",
                    reason="ReconciliationFailed",
                    subject=key.subject,
                ) from error

    def _tidying(self, live: Live) -> list[JSON]:
        patch: list[JSON] = [{"op": "remove", "path": path} for path in live.leftovers]
        if live.entries:
            merged = fields.take_over(orjson.loads(live.entries), FIELD_MANAGER, extra=self.estate.extra)
            if merged is not None:
                patch.append({"op": "replace", "path": "/metadata/managedFields", "value": merged})
        patch.append({"op": "replace", "path": "/metadata/resourceVersion", "value": str(live.version)})
        return patch

    async def _remove(self, step: Step, rights: Rights) -> None:
        """Delete an object whose immutable fields changed, and wait until it is gone."""
        key, gvk = step.key, step.manifest.gvk
        named = await watched_by_name(self.estate, [(gvk, key)])
        informer = named[key]
        try:
            await informer.synced(10.0)
            await rights.client.delete(gvk, key.name, key.namespace)
            async with asyncio.timeout(60.0):
                await wait_gone(informer, key)
        except NotFound:
            pass
        except ApiError as error:
            raise Transient(
                f"{key.subject} immutable field detected, failed to delete object: {error.message}",
                reason="ReconciliationFailed",
                subject=key.subject,
            ) from error
        except TimeoutError as error:
            raise Transient(
                f"{key.subject} immutable field detected, failed to wait for object to be deleted: "
                "it still waits for its finalizers",
                reason="ReconciliationFailed",
                subject=key.subject,
            ) from error
        finally:
            await self.estate.cluster.release(informer)
        if step.live is not None:
            self.estate.lost(key, step.live.uid)

    async def prune(
        self, stale: Iterable[ObjectKey], old: Inventory, rights: Rights, wanted: Iterable[ObjectKey] = ()
    ) -> Pruned:
        """Delete what is no longer wanted and still ours; see `prune.prune`."""
        return await prune(self.estate, rights.client, rights.owner, stale, old, wanted)


async def known_kinds(client: Client, kinds: Iterable[GVK]) -> list[GVK]:
    """Keep the kinds that the cluster serves; one that is not there yet cannot be watched."""
    found = []
    for gvk in dict.fromkeys(kinds):
        try:
            await client.mapper.resource(gvk)
        except ApiError:
            continue
        found.append(gvk)
    return found


def _unasked(step: Step) -> _Checked:
    """Judge a step that needs no dry run."""
    if step.verdict == "skip":
        return _Checked(step, exists=step.live is not None, skipped=step.why)
    if step.verdict == "keep":
        return _Checked(step, exists=True, same=True)
    return _Checked(step, exists=step.live is not None)


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Give a few hundred at a time: tasks for thousands at once would hold up the event loop."""
    return (items[start : start + SLICE] for start in range(0, len(items), SLICE))


def _runs(checked: Sequence[_Checked]) -> list[list[_Checked]]:
    groups: list[list[_Checked]] = []
    for item in checked:
        if groups and groups[-1][-1].step.key.group_kind == item.step.key.group_kind:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _scrub(manifest: Manifest, text: str) -> str:
    """Remove a Secret's values from a server's answer, which may quote them (S17)."""
    if manifest.gvk.group or manifest.gvk.kind != "Secret":
        return text
    body = manifest.load()
    # The longest first: what is left of a longer one after a shorter was masked would show.
    forms = {form for place in ("data", "stringData") for form in _texts(body.get(place)) if len(form) > 2}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return _QUOTED.sub(r"\1***\2", text)


# How the API server quotes a value of a wrong type.
_QUOTED = re.compile(r"(valueUnstructured\{Value:).*?(\})")


def _texts(value: object) -> Iterator[str]:
    """Give every text in a value, as it is and decoded; also where a map or list stands instead of a text."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)
        yield _decoded(value)


def _decoded(value: object) -> str:
    try:
        return base64.b64decode(str(value), validate=True).decode()
    except ValueError:
        return ""


def _dry_run_error(manifest: Manifest, error: ApiError) -> Transient:
    subject, said = manifest.key.subject, _scrub(manifest, error.message)
    if isinstance(error, NoKindMatch):
        message, hint = f"{subject} dry-run failed: {said}", _hint(error)
    elif error.status == 404 and not manifest.key.namespace and error.api_reason == "NotFound":
        message = f"{subject} namespace not specified: {said}"
        hint = "set metadata.namespace in the manifest or spec.targetNamespace in the Kustomization"
    elif error.status == 404:
        message, hint = f"{subject} not found: {said}", _hint(error)
    else:
        reason = f" ({error.api_reason})" if error.api_reason and error.api_reason != "Unknown" else ""
        message, hint = f"{subject} dry-run failed{reason}: {said}", _hint(error)
    return Transient(message, reason="ReconciliationFailed", subject=subject, place=_places(error), hint=hint)


def _refusal(refused: Sequence[GitwrightError]) -> GitwrightError:
    """Raise the first refusal, with the others named after it: all of a stage at once."""
    first = refused[0]
    if len(refused) == 1:
        return first
    others = "\n".join(f"also: {error.message.rstrip()}" for error in refused[1:9])
    more = f"\nand {len(refused) - 9} more" if len(refused) > 9 else ""
    detail = "\n".join(part for part in (first.detail, others + more) if part)
    return Transient(
        first.message,
        reason=first.reason,
        subject=first.subject,
        place=first.place,
        detail=detail,
        hint=first.hint,
    )


def _places(error: ApiError) -> str:
    return ", ".join(dict.fromkeys(cause.field for cause in error.causes if cause.field))


_HINTS: Mapping[int, str] = {
    401: "the API server does not know the identity that was used",
    403: "grant the service account this verb, or remove the object from Git",
    404: "is its CustomResourceDefinition installed? Put it in a Kustomization that this one depends on",
    409: "another writer changed the object at the same time; it is tried again",
    422: "mend the field in Git; nothing of this stage was applied",
}


def _hint(error: ApiError) -> str:
    if error.is_immutable and error.status == 422 and "immutable" in error.message:
        return (
            "an immutable field cannot change: set spec.force, "
            "or annotate the object kustomize.toolkit.fluxcd.io/force: Enabled"
        )
    return _HINTS.get(error.status, "")
