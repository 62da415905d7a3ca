"""Field ownership: managedFields entries and their FieldsV1 sets.

Role in the flow: informers project objects to the fields that one manager owns,
and apply finds and takes over the fields of older appliers. Pure, and on the way of
every watch event. It must not know which manager is ours.

A FieldsV1 set is a trie: `f:NAME` is a member of a map, `k:{...}` the list item with
these key fields, `v:VALUE` a member of a set, `i:N` a list position, `.` the node
itself; a node without members owns itself. Source: sigs.k8s.io/structured-merge-diff,
fieldpath serialization; spec/flux-v2.md 3.3 item 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from gitwright.core.objects import JSON

_ABSENT: Any = object()

# The one list key that Kubernetes' built-in schemas default: a port without a protocol is TCP.
_KEY_DEFAULTS = {"protocol": "TCP"}


def entry(
    obj: Mapping[str, Any], manager: str, operation: str = "Apply", subresource: str = ""
) -> JSON | None:
    """Find a manager's entry in an object's managedFields.

    Args:
        obj: the whole object.
        manager: the manager's exact name.
        operation: `Apply` or `Update`.
        subresource: such as `status`; empty for the main resource.
    """
    found: JSON
    for found in (obj.get("metadata") or {}).get("managedFields") or ():
        if (
            found.get("manager") == manager
            and found.get("operation") == operation
            and (found.get("subresource") or "") == subresource
        ):
            return found
    return None


def paths(fields_v1: Mapping[str, Any]) -> frozenset[str]:
    """List the owned paths, such as `/f:spec/f:replicas` or `/f:x/k:{"name":"web"}/f:image`.

    These are the leaves, and each parent that is itself owned.
    """
    found: list[str] = []
    _collect(fields_v1, "", found)
    return frozenset(found)


def _collect(node: Mapping[str, Any], prefix: str, found: list[str]) -> None:
    for name, child in node.items():
        if name == ".":
            found.append(prefix)
        elif child:
            _collect(child, f"{prefix}/{name}", found)
        else:
            found.append(f"{prefix}/{name}")


def select(obj: Any, fields_v1: Mapping[str, Any]) -> Any:
    """Cut out of an object the values at the owned paths, in the object's own shape.

    A leaf gives the whole value below it. List items found by key keep their key
    fields and the object's order; what is owned but absent is left out. A set with
    no member in the object gives an empty value of the object's type.

    Args:
        obj: the object, or a part of one that `fields_v1` describes.
        fields_v1: a FieldsV1 set.
    """
    if not fields_v1:
        return obj
    if isinstance(obj, dict):
        return _select_map(obj, fields_v1)
    if isinstance(obj, list):
        return _select_list(obj, fields_v1)
    return obj


def _select_map(obj: JSON, node: Mapping[str, Any]) -> JSON:
    out: JSON = {}
    for name, child in node.items():
        if name[:2] != "f:":
            continue
        key = name[2:]
        value = obj.get(key, _ABSENT)
        if value is _ABSENT:
            continue
        if not child:
            out[key] = value
        elif isinstance(value, dict):
            out[key] = _select_map(value, child)
        elif isinstance(value, list):
            out[key] = _select_list(value, child)
        else:
            out[key] = value
    return out


def _select_list(items: list[Any], node: Mapping[str, Any]) -> list[Any]:
    keyed: dict[tuple[str, ...], dict[tuple[Any, ...], Mapping[str, Any]]] = {}
    members: set[bytes] = set()
    positions: dict[int, Mapping[str, Any]] = {}
    for name, child in node.items():
        kind = name[:2]
        if kind == "k:":
            key = orjson.loads(name[2:])
            keyed.setdefault(tuple(key), {})[tuple(key.values())] = child
        elif kind == "v:":
            members.add(_canonical(orjson.loads(name[2:])))
        elif kind == "i:":
            positions[int(name[2:])] = child
    out: list[Any] = []
    for number, item in enumerate(items):
        if number in positions:
            out.append(select(item, positions[number]))
        elif isinstance(item, dict) and keyed:
            _select_item(item, keyed, out)
        elif members and _canonical(item) in members:
            out.append(item)
    return out


def _select_item(
    item: JSON, keyed: Mapping[tuple[str, ...], Mapping[tuple[Any, ...], Mapping[str, Any]]], out: list[Any]
) -> None:
    for names, wanted in keyed.items():
        values = tuple(item.get(name, _KEY_DEFAULTS.get(name)) for name in names)
        try:
            child = wanted.get(values)
        except TypeError:
            # A list or map where a key field should be: such an item has no key.
            continue
        if child is None:
            continue
        if not child:
            out.append(item)
            return
        part = _select_map(item, child)
        # Without its key an item could not be told from another with the same values.
        part.update((name, item[name]) for name in names if name in item)
        out.append(part)
        return


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def union(a: Mapping[str, Any], b: Mapping[str, Any]) -> JSON:
    """Merge two FieldsV1 sets; neither is changed.

    A node that is a leaf in one and has members in the other stays owned itself,
    by a `.` member.
    """
    return _union(a, b, root=True)


def _union(a: Mapping[str, Any], b: Mapping[str, Any], *, root: bool) -> JSON:
    if not a and not b:
        return {}
    own = not root and (not a or not b or "." in a or "." in b)
    merged: JSON = {".": {}} if own else {}
    for name, child in a.items():
        if name != ".":
            merged[name] = _union(child, b[name], root=False) if name in b else child
    for name, child in b.items():
        if name != "." and name not in merged:
            merged[name] = child
    return merged


def take_over(
    managed_fields: Sequence[Mapping[str, Any]],
    manager: str,
    *,
    prefixes: Iterable[str] = ("kubectl",),
    also_update: Iterable[str] = ("before-first-apply",),
    extra: Iterable[str] = (),
) -> list[JSON] | None:
    """Merge the entries of other appliers into a manager's Apply entry and drop them.

    The next apply then removes what they set and the manager does not want.
    Entries of subresources are left alone. Where the manager has no Apply entry, the
    first of theirs becomes it.

    Args:
        managed_fields: `metadata.managedFields`.
        manager: the name of the manager that takes over.
        prefixes: beginnings of manager names whose Apply and Update entries are taken.
        also_update: beginnings of manager names whose Update entries are taken; the
            manager's own name always is one.
        extra: as `prefixes`; names an operator has configured.

    Returns:
        The new managedFields, or None when there is nothing to take.

    Source: spec/flux-v2.md 3.3 item 8.
    """
    both, update = (*prefixes, *extra), (*also_update, manager)
    kept: list[JSON] = []
    own: JSON | None = None
    taken: list[Mapping[str, Any]] = []
    for found in managed_fields:
        if _is_own(found, manager):
            own = dict(found)
        elif _taken(found, both, update):
            taken.append(found)
        else:
            kept.append(dict(found))
    if not taken:
        return None
    if own is None:
        own = {**taken.pop(0), "manager": manager, "operation": "Apply"}
    for found in taken:
        theirs = found.get("fieldsV1") or {}
        own["fieldsV1"] = union(own.get("fieldsV1") or {}, theirs)
    return [*kept, own]


def foreign(
    managed_fields: Iterable[Mapping[str, Any]],
    manager: str,
    *,
    prefixes: Iterable[str] = ("kubectl",),
    also_update: Iterable[str] = ("before-first-apply",),
    extra: Iterable[str] = (),
) -> bool:
    """Tell whether `take_over` with the same arguments would find something to take."""
    both, update = (*prefixes, *extra), (*also_update, manager)
    return any(not _is_own(found, manager) and _taken(found, both, update) for found in managed_fields)


def _is_own(found: Mapping[str, Any], manager: str) -> bool:
    return (
        found.get("manager") == manager and found.get("operation") == "Apply" and not found.get("subresource")
    )


def _taken(found: Mapping[str, Any], both: tuple[str, ...], update: tuple[str, ...]) -> bool:
    if found.get("subresource"):
        return False
    name = str(found.get("manager") or "")
    return name.startswith(both) or (found.get("operation") == "Update" and name.startswith(update))
