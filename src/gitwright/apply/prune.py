"""Prune: what an inventory names and nobody wants any more is deleted, if it is still ours.

Role in the flow: after the apply of a run, and at the end of a Kustomization. Every
object is looked at before it is deleted, and deleted only as it was when it was looked
at. It writes no status and knows nothing of why an object is not wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gitwright.apply.estate import Estate
from gitwright.apply.inventory import Inventory
from gitwright.apply.live import FLUX_CONTROLLER, Live, Owner
from gitwright.apply.plan import Change, may_delete
from gitwright.core.errors import GitwrightError, Transient
from gitwright.core.objects import GVK, ObjectKey
from gitwright.kube.client import Client
from gitwright.kube.errors import Conflict, NoKindMatch, NotFound

TOOLKIT = (".toolkit.fluxcd.io", ".extensions.fluxcd.io")
# Of a deletion, which is bound to a resource version.
TRIES = 5

# The changes; the keys that could not be deleted and must stay in the inventory; the errors.
Pruned = tuple[list[Change], list[ObjectKey], list[str]]


class _Wanted:
    """What must stay, under whatever identity an inventory names it.

    Args:
        keys: the wanted keys.
        estate: knows the objects.
    """

    def __init__(self, keys: Iterable[ObjectKey], estate: Estate) -> None:
        self._keys = frozenset(keys)
        self._uids = frozenset(live.uid for live in estate.all_of(self._keys).values())
        self._names = frozenset((key.group, key.kind, key.name) for key in self._keys)

    def holds(self, live: Live) -> bool:
        """Tell whether a live object is one of them.

        Flux writes a namespace into the identity of a cluster-scoped object of a custom kind
        when kustomize set one, and so may a manifest whose kind was not served yet.
        """
        key = live.key
        same = not key.namespace and (key.group, key.kind, key.name) in self._names
        return same or key in self._keys or live.uid in self._uids


@dataclass(frozen=True, slots=True)
class _Hand:
    """Who prunes, and what it must not touch."""

    estate: Estate
    client: Client
    owner: Owner
    wanted: _Wanted


async def prune(
    estate: Estate,
    client: Client,
    owner: Owner,
    stale: Iterable[ObjectKey],
    old: Inventory,
    wanted: Iterable[ObjectKey] = (),
) -> Pruned:
    """Delete what is no longer wanted and still ours.

    Args:
        estate: the managed objects of the cluster.
        client: deletes, as the tenant.
        owner: the Kustomization.
        stale: keys in the order of deletion.
        old: the inventory they come from, for their versions.
        wanted: keys that must stay, under whatever other identity an inventory names them.

    Returns:
        The changes; the keys that could not be deleted and must stay in the inventory; the
        errors, one text per object.

    Source: spec/flux-v2.md 3.3, Inventory/GC.
    """
    hand = _Hand(estate, client, owner, _Wanted(wanted, estate))
    changes: list[Change] = []
    survivors: list[ObjectKey] = []
    errors: list[str] = []
    for key in stale:
        try:
            changes.append(await _delete(hand, key, old.versions[key]))
        except GitwrightError as error:
            survivors.append(key)
            errors.append(f"{key.subject} delete failed: {error.message}")
    return changes, survivors, errors


async def _delete(hand: _Hand, key: ObjectKey, version: str) -> Change:
    """Delete one object, exactly as it was when it was judged.

    Whoever takes it over, or opts it out, between our look and our request wins: the
    request is bound to the version that was looked at.
    """
    gvk, live = GVK(key.group, version, key.kind), hand.estate.find(key)
    for attempt in range(1, TRIES + 1):
        try:
            return await _attempt(hand, gvk, key, live)
        except NoKindMatch:
            # The version in the inventory may be served no more, and the object in another.
            other = await hand.client.mapper.served(gvk.group_kind)
            if other is None or other == gvk:
                return Change(key, version, "deleted", "was gone already")
            gvk, live = other, None
        except NotFound:
            return Change(key, version, "deleted", "was gone already")
        except Conflict:
            if attempt == TRIES:
                raise
            live = None
    raise Transient(f"{key.group_kind} is served in another version each time", reason="PruneFailed")


async def _attempt(hand: _Hand, gvk: GVK, key: ObjectKey, live: Live | None) -> Change:
    if not key.namespace and (await hand.client.mapper.resource(gvk)).namespaced:
        return Change(key, gvk.version, "deleted", "cannot be there: it has no namespace")
    if live is None:
        # The watch knows only what carries our labels: look once.
        live = hand.estate.project(await hand.client.get(gvk, key.name, key.namespace))
    if hand.wanted.holds(live):
        return Change(key, gvk.version, "unchanged", "is wanted, and only named differently")
    why, keep = await _spared(hand, gvk, key, live)
    if why:
        return Change(key, gvk.version, "skipped", why, keep)
    if not live.deleting:
        await hand.client.delete(
            gvk, key.name, key.namespace, uid=live.uid, resource_version=str(live.version)
        )
    return Change(key, gvk.version, "deleted")


async def _spared(hand: _Hand, gvk: GVK, key: ObjectKey, live: Live) -> tuple[str, bool]:
    """Say why a stale object is not deleted, or nothing; and whether it stays in the inventory."""
    if why := may_delete(live, hand.owner):
        return why, FLUX_CONTROLLER in live.marks
    if key.kind == "CustomResourceDefinition" and key.name.endswith(TOOLKIT):
        why = await _in_use(hand.client, gvk, key)
        return why, bool(why)
    return "", False


async def _in_use(client: Client, gvk: GVK, key: ObjectKey) -> str:
    """A toolkit CRD that still has objects is never pruned (design, section 4)."""
    definition = await client.get(gvk, key.name)
    spec = definition.get("spec") or {}
    version = next((item["name"] for item in spec.get("versions") or [] if item.get("served")), "")
    kind = GVK(str(spec.get("group") or ""), str(version), str((spec.get("names") or {}).get("kind") or ""))
    try:
        listed = await client.list(kind, limit=1)
    except NotFound:
        return ""
    return "still has objects, which would be deleted with it" if listed.items else ""
