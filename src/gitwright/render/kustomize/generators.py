"""ConfigMaps and Secrets made of literals and files, and the hash at the end of their names.

Role in the flow: called while a kustomization is accumulated; the hash comes once, at the very
end. Reads files through the kustomization's root only. Source: kustomize
api/internal/generators, api/kv, api/hasher, kyaml/yaml/datamap.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from gitwright.core.objects import JSON
from gitwright.formats import yaml
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.model import ORIGIN, Behaviour, Resource, ResourceList, check_key, text_of
from gitwright.render.kustomize.scopes import Scopes
from gitwright.render.kustomize.tree import Root

_LINE = 70
"""Characters of base64 in one line."""
_LONGEST = 64 * 1024
"""Bytes of a line of a file of variables from which on it counts no more."""
_CODE = str.maketrans("013ae", "ghkmt")


def generate(
    kind: Literal["ConfigMap", "Secret"],
    entry: Mapping[str, Any],
    shared: Mapping[str, Any] | None,
    root: Root,
    scopes: Scopes,
    place: str,
) -> Resource:
    """Make the object that one entry of a generator describes.

    Args:
        kind: what to make.
        entry: the entry, its fields checked.
        shared: the kustomization's `generatorOptions`.
        root: where files are read.
        scopes: of the build.
        place: file and field, for messages.

    Raises:
        KustomizeError: it has no name, a key is given twice, or a file is missing.
    """
    name = entry.get("name") or ""
    if not name:
        raise KustomizeError("a configmap must have a name", place=place, detail="field 'name' is missing")
    options = merged_options(entry.get("options"), shared)
    metadata: JSON = {"name": name}
    if entry.get("namespace"):
        metadata["namespace"] = entry["namespace"]
    obj: JSON = {"apiVersion": "v1", "kind": kind, "metadata": metadata}
    pairs = _pairs(entry, name, root, place)
    if kind == "Secret":
        obj["type"] = entry.get("type") or "Opaque"
        obj["data"] = {key: _node(_base64(value)) for key, value in pairs.items()}
    else:
        for key, value in pairs.items():
            field, text = _value(value)
            obj.setdefault(field, {})[key] = text
    for field in ("labels", "annotations"):
        if options.get(field):
            metadata[field] = dict(options[field])
            _check_keys(metadata[field], place)
    _check_keys(pairs, place)
    if options.get("immutable"):
        obj["immutable"] = True
    return Resource(
        obj,
        scopes,
        place,
        behaviour=_behaviour(entry.get("behavior")),
        needs_hash=not options.get("disableNameSuffixHash"),
    )


def _check_keys(names: Iterable[str], place: str) -> None:
    for name in names:
        try:
            check_key(name)
        except KustomizeError as error:
            raise error.at(place) from None


def _behaviour(text: str | None) -> Behaviour:
    found: dict[str, Behaviour] = {"create": "create", "replace": "replace", "merge": "merge"}
    return found.get(text or "", "")


def merged_options(own: Mapping[str, Any] | None, shared: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give an entry's options completed by the kustomization's."""
    found = dict(own or {})
    for field in ("labels", "annotations"):
        both = {**((shared or {}).get(field) or {}), **(found.get(field) or {})}
        if both:
            found[field] = both
    for field in ("disableNameSuffixHash", "immutable"):
        if (shared or {}).get(field):
            found[field] = True
    return found


def _pairs(entry: Mapping[str, Any], name: str, root: Root, place: str) -> dict[str, bytes]:
    pairs: list[tuple[str, bytes]] = []
    for path in entry.get("envs") or ():
        pairs += _lines(_read(root, path, place, "envs"), path)
    for literal in entry.get("literals") or ():
        key, equals, value = literal.partition("=")
        if not key or not equals:
            raise KustomizeError(
                f"invalid literal source {literal}, expected key=value",
                place=place,
                detail="field 'literals'",
            )
        pairs.append((key, _unquoted(value).encode("utf-8", "surrogatepass")))
    for source in entry.get("files") or ():
        key, path = _source(source, place)
        pairs.append((key, _read(root, path, place, "files")))
    found: dict[str, bytes] = {}
    for key, value in pairs:
        if key in found:
            raise KustomizeError(f"configmap {name} illegally repeats the key `{key}`", place=place)
        found[key] = value
    return found


def _read(root: Root, path: str, place: str, field: str) -> bytes:
    try:
        return root.read(path)
    except FileNotFoundError:
        raise KustomizeError(
            f"open {root.shown(path)}: no such file or directory", place=place, detail=f"field '{field}'"
        ) from None


def _source(source: str, place: str) -> tuple[str, str]:
    key, equals, path = source.partition("=")
    if not equals:
        return source.rstrip("/").rpartition("/")[2], source
    problem = ""
    if "=" in path:
        problem = f"source {json.dumps(source)} key name or file path contains '='"
    elif not key:
        problem = f'missing key name for file path "{path}" in source "{source}"'
    elif not path:
        problem = f'missing file path for key name "{key}" in source "{source}"'
    if problem:
        raise KustomizeError(problem, place=place, detail="field 'files'")
    return key, path


def _lines(content: bytes, path: str) -> list[tuple[str, bytes]]:
    found = []
    for number, raw in enumerate(content.split(b"\n"), 1):
        if len(raw) >= _LONGEST:
            # kustomize reads no further either, and says nothing.
            break
        line = raw.removesuffix(b"\r")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise KustomizeError("line has invalid utf8 bytes", place=f"{path}:{number}") from None
        if number == 1:
            text = text.removeprefix("\ufeff")
        text = text.lstrip()
        if not text or text.startswith("#"):
            continue
        key, _, value = text.partition("=")
        if key:
            found.append((key, value.encode()))
    return found


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _value(value: bytes) -> tuple[str, str]:
    try:
        return "data", _node(value.decode())
    except UnicodeDecodeError:
        return "binaryData", _base64(value)


def _node(text: str) -> str:
    """Give a text as kustomize writes it: as a block when it has lines, else in quotes when it must be."""
    return yaml.Quoted(text) if "\n" in text else yaml.written(text)


def _base64(value: bytes) -> str:
    text = base64.b64encode(value).decode()
    if len(text) < _LINE:
        return text
    return "".join(f"{text[start : start + _LINE]}\n" for start in range(0, len(text), _LINE))


def absorb(resources: ResourceList, generated: Resource, place: str) -> None:
    """Add a generated object to the others, or into the one that it merges with or replaces.

    Raises:
        KustomizeError: its behaviour does not fit what is there.
    """
    identity = generated.id
    matches = resources.by_any().get(identity, [])
    if not matches:
        if generated.behaviour in ("merge", "replace"):
            raise KustomizeError(
                f"id {identity} does not exist; cannot merge or replace",
                place=place,
                detail=f"field 'behavior': {generated.behaviour}",
            )
        resources.append(generated)
        return
    if len(matches) > 1:
        raise KustomizeError(f"found multiple objects that could accept merge of {identity}", place=place)
    old = matches[0]
    if generated.behaviour not in ("merge", "replace"):
        raise KustomizeError(
            f"id {identity} exists; can not use behavior: '{generated.behaviour or 'unspecified'}', "
            "behavior must be merge or replace",
            place=place,
            detail=f"the other is of {old.source}" if old.source else "",
        )
    merge = generated.behaviour == "merge"
    before = old.id
    _replace(old, generated, merge=merge)
    if old.id != before:
        resources.changed()


def _replace(old: Resource, new: Resource, *, merge: bool) -> None:
    """Put a generated object in the place of another, whose name and history it takes."""
    metadata = new.obj["metadata"]
    for field in ("labels", "annotations"):
        before = old.labels if field == "labels" else old.annotations
        own = new.labels if field == "labels" else new.annotations
        both = {key: text_of(value) for key, value in {**before, **own}.items()}
        if merge and field == "annotations" and ORIGIN in before:
            both[ORIGIN] = before[ORIGIN]
        metadata.pop(field, None)
        if both:
            metadata[field] = both
    new.set_name(old.name)
    new.set_namespace(old.namespace)
    if merge:
        _merge_data(old, new)
    old.obj = new.obj
    old.needs_hash = old.needs_hash and new.needs_hash
    old.source = new.source


def _merge_data(old: Resource, new: Resource) -> None:
    merged: dict[str, str] = {}
    for source in (old, new):
        data = source.obj.get("data")
        merged.update({key: text_of(value) for key, value in (data or {}).items()})
    binary: dict[str, str] = {}
    for source in (old, new):
        data = source.obj.get("binaryData")
        binary.update({key: text_of(value) for key, value in (data or {}).items()})
    for field, value in (("data", merged), ("binaryData", binary)):
        new.obj.pop(field, None)
        if value:
            new.obj[field] = value


def add_hashes(resources: ResourceList) -> None:
    """Put the hash of the content at the end of the names that want one."""
    for resource in resources:
        if resource.needs_hash:
            text = digest(resource)
            resource.remember()
            resource.set_name(f"{resource.name}-{text}")
    resources.changed()


def digest(resource: Resource) -> str:
    """Give the ten letters that stand for an object's content.

    Raises:
        KustomizeError: it is neither a ConfigMap nor a Secret.
    """
    obj = resource.obj
    # The name is meant to count too, but kustomize looks for it in the wrong place and finds nothing.
    content: JSON = {"kind": resource.kind, "name": "", "data": _hashed(obj, "data")}
    if resource.kind == "ConfigMap":
        more = "binaryData"
    elif resource.kind == "Secret":
        more = "stringData"
        content["type"] = _hashed(obj, "type")
    else:
        raise KustomizeError(
            f"no hash for the name of a {resource.kind}: only ConfigMap and Secret have one",
            place=resource.source,
        )
    if isinstance(obj.get(more), dict):
        content[more] = obj[more]
    return hashlib.sha256(go_json(content).encode()).hexdigest()[:10].translate(_CODE)


def _hashed(obj: JSON, field: str) -> Any:
    if field not in obj:
        return ""
    value = obj[field]
    return value if isinstance(value, dict) else text_of(value)


def go_json(value: Any) -> str:
    """Write JSON as Go does: keys sorted, no space, and what HTML could mistake is escaped."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        if character in text:
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text
