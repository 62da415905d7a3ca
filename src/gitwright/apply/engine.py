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

import orjson

from gitwright.apply.estate import Estate
from gitwright.apply.inventory import Inventory
from gitwright.apply.live import FIELD_MANAGER, FLUX_CONTROLLER, Live, Owner, differing, marks_of
from gitwright.apply.plan import (
    STANDS_IN,
    Answer,
    Change,
    ChangeSet,
    Plan,
    Step,
    may_delete,
    opted_out,
    to_tidy,
)
from gitwright.apply.wait import wait_gone, watched_by_name
from gitwright.core.errors import GitwrightError, Transient
from gitwright.core.objects import GVK, JSON, Manifest, ObjectKey
from gitwright.kube import fields
from gitwright.kube.client import Client
from gitwright.kube.errors import ApiError, Conflict, Invalid, NoKindMatch, NotFound

TOOLKIT = (".toolkit.fluxcd.io", ".extensions.fluxcd.io")
# Of a write that is bound to a resource version.
TRIES = 5

# Keys and uids of what must stay.
_Kept = tuple[frozenset[ObjectKey], frozenset[str]]


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

        results = await asyncio.gather(*(one(step) for step in stage))
        refused = [result for result in results if isinstance(result, GitwrightError)]
        if refused:
            raise _refusal(refused)
        return [result for result in results if isinstance(result, _Checked)]

    async def _dry_run(self, step: Step, rights: Rights) -> _Checked:
        if step.verdict == "skip":
            return _Checked(step, exists=step.live is not None, skipped=step.why)
        if step.verdict == "keep":
            return _Checked(step, exists=True, same=True)
        if step.verdict == "repair":
            return _Checked(step, exists=step.live is not None)
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

        if any(not item.same and not item.skipped for item in checked):
            await announce()
        failed: list[GitwrightError] = []
        # Kinds go one after another, as Flux applies them; objects of one kind together.
        for group in _runs(checked):
            for result in await asyncio.gather(*(one(item) for item in group)):
                if isinstance(result, Change):
                    done.changes.append(result)
                else:
                    failed.append(result)
            if failed:
                raise failed[0]

    async def _one(self, item: _Checked, rights: Rights) -> Change:
        step, manifest = item.step, item.step.manifest
        version = manifest.gvk.version
        if item.skipped:
            return Change(step.key, version, "skipped", item.skipped)
        if item.same:
            if step.live is not None and step.live.owner == rights.owner:
                self.estate.answered(rights.owner, step.key, Answer(manifest.digest, step.live.owned))
            return Change(step.key, version, "unchanged", step.why)
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
    ) -> tuple[list[Change], list[ObjectKey], list[str]]:
        """Delete what is no longer wanted and still ours.

        Args:
            stale: keys in the order of deletion.
            old: the inventory they come from, for their versions.
            rights: in whose name.
            wanted: keys that must stay, under whatever other identity an inventory names them.

        Returns:
            The changes; the keys that could not be deleted and must stay in the
            inventory; the errors.
        """
        kept = frozenset(wanted)
        uids = frozenset(live.uid for live in self.estate.all_of(kept).values())
        changes: list[Change] = []
        survivors: list[ObjectKey] = []
        errors: list[str] = []
        for key in stale:
            version = old.versions[key]
            try:
                changes.append(await self._delete(key, version, rights, (kept, uids)))
            except GitwrightError as error:
                survivors.append(key)
                errors.append(f"{key.subject} delete failed: {error.message}")
        return changes, survivors, errors

    async def _delete(self, key: ObjectKey, version: str, rights: Rights, kept: _Kept) -> Change:
        """Delete one object, exactly as it was when it was judged.

        Whoever takes it over, or opts it out, between our look and our request wins: the
        request is bound to the version that was looked at.
        """
        gvk, live = GVK(key.group, version, key.kind), self.estate.find(key)
        for attempt in range(1, TRIES + 1):
            try:
                if not key.namespace and (await rights.client.mapper.resource(gvk)).namespaced:
                    return Change(key, version, "deleted", "cannot be there: it has no namespace")
                if live is None:
                    # The watch knows only what carries our labels: look once.
                    live = self.estate.project(await rights.client.get(gvk, key.name, key.namespace))
                why, keep = await self._spared(gvk, key, live, rights, kept)
                if why:
                    return Change(key, version, "skipped", why, keep)
                if not live.deleting:
                    await rights.client.delete(
                        gvk, key.name, key.namespace, uid=live.uid, resource_version=str(live.version)
                    )
                return Change(key, gvk.version, "deleted")
            except NoKindMatch:
                # The version in the inventory may be served no more, and the object in another.
                other = await rights.client.mapper.served(gvk.group_kind)
                if other is None or other == gvk:
                    return Change(key, version, "deleted", "was gone already")
                gvk, live = other, None
            except NotFound:
                return Change(key, version, "deleted", "was gone already")
            except Conflict:
                if attempt == TRIES:
                    raise
                live = None
        raise Transient(f"no version of {key.group_kind} is served for long enough", reason="PruneFailed")

    async def _spared(
        self, gvk: GVK, key: ObjectKey, live: Live, rights: Rights, kept: _Kept
    ) -> tuple[str, bool]:
        """Say why a stale object is not deleted, or nothing; and whether it stays in the inventory."""
        keys, uids = kept
        if live.key in keys or live.uid in uids:
            return "is wanted, and only written differently in the inventory", False
        if why := may_delete(live, rights.owner):
            return why, FLUX_CONTROLLER in live.marks
        if key.kind == "CustomResourceDefinition" and key.name.endswith(TOOLKIT):
            why = await self._in_use(gvk, key, rights)
            return why, bool(why)
        return "", False

    async def _in_use(self, gvk: GVK, key: ObjectKey, rights: Rights) -> str:
        """A toolkit CRD that still has objects is never pruned (design, section 4)."""
        definition = await rights.client.get(gvk, key.name)
        spec = definition.get("spec") or {}
        version = next((item["name"] for item in spec.get("versions") or [] if item.get("storage")), "")
        kind = GVK(
            str(spec.get("group") or ""), str(version), str((spec.get("names") or {}).get("kind") or "")
        )
        try:
            listed = await rights.client.list(kind, limit=1)
        except NotFound:
            return ""
        return "still has objects, which would be deleted with it" if listed.items else ""


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
