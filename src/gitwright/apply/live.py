"""What is kept of a managed object that the watch shows: a projection, not the object.

Role in the flow: `project` runs on every watch event and on every answer to an
apply; `plan` compares its results. Pure; it does not know who asked or why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gitwright.api import meta
from gitwright.core.objects import JSON, ObjectKey, key_of
from gitwright.health import Health
from gitwright.kube import fields

FIELD_MANAGER = meta.APPLY_MANAGER
GROUP = meta.KUSTOMIZE_GROUP
OWNER_NAME = meta.OWNER_NAME
OWNER_NAMESPACE = meta.OWNER_NAMESPACE

# Source: spec/flux-v2.md 3.3 item 8.
_LEFTOVER_ANNOTATIONS = (meta.LAST_APPLIED, meta.OLD_CHECKSUM, meta.OLD_SYNC_CHECKSUM)
_LEFTOVER_LABELS = (meta.OLD_GC_MARK_LABEL,)
FLUX_CONTROLLER = "flux=controller"
# The deployments of flux-install.
_FLUX_CONTROLLERS = frozenset(
    {
        "source-controller",
        "kustomize-controller",
        "helm-controller",
        "notification-controller",
        "image-reflector-controller",
        "image-automation-controller",
        "source-watcher",
    }
)
_MARKS = ("reconcile", "ssa", "force", "prune")


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """The Kustomization that owns an object, by its labels."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


NOBODY = Owner("", "")


@dataclass(frozen=True, slots=True)
class Live:
    """One object as the cluster has it, reduced to what decisions need.

    Args:
        key: identity.
        uid: the object's uid; a recreated object has another.
        version: the resource version as a number; larger is newer.
        owner: the Kustomization named by the owner labels, or `NOBODY`.
        marks: opt-outs found in annotations and labels, such as `ssa=ignore`, lower case.
        owned: JSON of the fields that our manager owns and their values, keys sorted.
        entries: JSON of all managedFields, only when entries of other appliers
            (kubectl) must be taken over; else empty.
        leftovers: JSON pointers of annotations and labels that older appliers left.
        others: other managers of the object, the latest first, without subresources.
        deleting: whether it waits for its finalizers.
        health: how it is.
        judged_by: digest of the health expressions that were used.
        written_as: API version of our last apply, which `owned` is told in; empty before the first.
    """

    key: ObjectKey
    uid: str
    version: int
    owner: Owner
    marks: frozenset[str]
    owned: bytes
    entries: bytes
    leftovers: tuple[str, ...]
    others: tuple[str, ...]
    deleting: bool
    health: Health
    judged_by: str = ""
    written_as: str = ""

    @property
    def untidy(self) -> bool:
        """Whether fields or annotations of other appliers must be removed by an apply."""
        return bool(self.entries or self.leftovers)


def marks_of(obj: Mapping[str, Any]) -> frozenset[str]:
    """Read Flux's per-object opt-outs from annotations and labels, and whether it is Flux's own.

    Values match without regard to case. Source: spec/flux-v2.md 3.3, table of annotations.
    """
    metadata = obj.get("metadata") or {}
    found = set()
    for source in (metadata.get("annotations") or {}, metadata.get("labels") or {}):
        for mark in _MARKS:
            value = source.get(f"{GROUP}/{mark}")
            if value is not None:
                found.add(f"{mark}={str(value).lower()}")
    if _of_flux(obj):
        found.add(FLUX_CONTROLLER)
    return frozenset(found)


def _of_flux(obj: Mapping[str, Any]) -> bool:
    if obj.get("kind") != "Deployment" or not str(obj.get("apiVersion", "")).startswith("apps/"):
        return False
    metadata = obj.get("metadata") or {}
    labels = metadata.get("labels") or {}
    return metadata.get("name") in _FLUX_CONTROLLERS and (
        labels.get("app.kubernetes.io/part-of") == "flux" or labels.get("control-plane") == "controller"
    )


def owner_of(obj: Mapping[str, Any]) -> Owner:
    """Read the owner labels."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    return Owner(str(labels.get(OWNER_NAMESPACE) or ""), str(labels.get(OWNER_NAME) or ""))


def project(obj: JSON, health: Health, judged_by: str = "", extra: tuple[str, ...] = ()) -> Live:
    """Reduce a whole object to its `Live` projection.

    Args:
        obj: the object as the API server gave it, managedFields included.
        health: its health, already judged.
        judged_by: digest of the health expressions used, or empty.
        extra: further managers whose fields an apply takes over.
    """
    metadata = obj.get("metadata") or {}
    entries: list[JSON] = metadata.get("managedFields") or []
    ours = fields.entry(obj, FIELD_MANAGER)
    owned = fields.select(obj, ours.get("fieldsV1") or {}) if ours else None
    foreign = fields.foreign(entries, FIELD_MANAGER, extra=extra)
    return Live(
        key=key_of(obj),
        uid=str(metadata.get("uid") or ""),
        version=int(metadata.get("resourceVersion") or 0),
        owner=owner_of(obj),
        marks=marks_of(obj),
        owned=orjson.dumps(owned, option=orjson.OPT_SORT_KEYS) if owned is not None else b"",
        entries=orjson.dumps(entries) if foreign else b"",
        leftovers=tuple(_leftovers(metadata)),
        others=tuple(_others(entries)),
        deleting=bool(metadata.get("deletionTimestamp")),
        health=health,
        judged_by=judged_by,
        written_as=str(ours.get("apiVersion") or "") if ours else "",
    )


def _leftovers(metadata: Mapping[str, Any]) -> Iterable[str]:
    for place, names in (("annotations", _LEFTOVER_ANNOTATIONS), ("labels", _LEFTOVER_LABELS)):
        present = metadata.get(place) or {}
        for name in names:
            if name in present:
                yield f"/metadata/{place}/{name.replace('~', '~0').replace('/', '~1')}"


def _others(entries: Iterable[JSON]) -> list[str]:
    found = [
        entry
        for entry in entries
        if not entry.get("subresource")
        and not (entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply")
    ]
    found.sort(key=lambda entry: str(entry.get("time") or ""), reverse=True)
    return list(dict.fromkeys(str(entry.get("manager") or "") for entry in found))


def fits(wanted: JSON, owned: bytes) -> bool:
    """Tell whether what we own of a live object is just what a manifest wants.

    Used after a start, when no answer to an earlier apply is remembered. It may say
    no where the server only wrote a value in another way; a dry run then decides. It
    never says yes when an owned value differs or an owned field is no longer wanted.

    Args:
        wanted: the whole manifest.
        owned: `Live.owned` of the object.
    """
    if not owned:
        return False
    body = {name: value for name, value in wanted.items() if name not in ("apiVersion", "kind")}
    metadata = dict(body.get("metadata") or {})
    for name in ("name", "namespace", "creationTimestamp"):
        metadata.pop(name, None)
    body["metadata"] = metadata
    return _same(body, orjson.loads(owned))


def _same(wanted: Any, owned: Any) -> bool:
    if wanted is None or wanted == {}:
        # An empty struct owns only itself; what the server put inside is not ours.
        return True
    if isinstance(wanted, dict) and isinstance(owned, dict):
        if any(name not in wanted for name in owned):
            return False
        return all(
            _same(value, owned[name]) if name in owned else _void(value) for name, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(owned, list):
        return len(wanted) == len(owned) and all(map(_same, wanted, owned))
    return type(wanted) is type(owned) and bool(wanted == owned)


def _void(value: Any) -> bool:
    """Whether a wanted value owns no field at all: nothing, or structs of nothing."""
    if isinstance(value, dict):
        return all(map(_void, value.values()))
    return value is None or value == []


def differing(before: bytes, after: bytes, limit: int = 5) -> tuple[str, ...]:
    """Name the fields in which two `Live.owned` values differ, as dotted paths.

    Args:
        before: what our last apply was answered with.
        after: what the watch shows.
        limit: the most paths to give.
    """
    found: list[str] = []
    _differ(orjson.loads(before or b"null"), orjson.loads(after or b"null"), "", found, limit)
    return tuple(found)


def _differ(one: Any, two: Any, path: str, found: list[str], limit: int) -> None:
    if one == two or len(found) >= limit:
        return
    # A map whose last field of ours another writer took is not there at all.
    left, right = ({} if value is None else value for value in (one, two))
    if isinstance(left, dict) and isinstance(right, dict) and (left or right):
        for name in sorted({*left, *right}):
            if left.get(name) == right.get(name) and (name not in left or name not in right):
                found.append(f"{path}.{name}")  # a null on one side, nothing on the other
            _differ(left.get(name), right.get(name), f"{path}.{name}", found, limit)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for position, (left, right) in enumerate(zip(one, two, strict=True)):
            _differ(left, right, f"{path}[{position}]", found, limit)
    else:
        found.append(path or ".")
