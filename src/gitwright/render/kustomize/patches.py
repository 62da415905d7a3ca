"""The patches of a kustomization: read, told apart, aimed and applied.

Role in the flow: the transformers of `patches`, `patchesStrategicMerge` and `patchesJson6902`
call `apply_all`. Objects are found by indexes when the target gives a plain name, so that many
patches over many objects stay linear. Source: kustomize api/internal/builtins (Patch*Transformer),
api/resmap, api/resource.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gitwright.core.objects import JSON
from gitwright.formats import yaml
from gitwright.render.kustomize import jsonpatch, load, merge, selectors
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.model import (
    INTERNAL,
    Context,
    Gvk,
    Id,
    PatchEntry,
    Resource,
    ResourceList,
    copy_value,
    split_api_version,
    text_of,
    texts,
)

_LITERAL = re.compile(r"[-A-Za-z0-9_:]+\Z")
_NEAR = 3
"""Objects named when a patch meets none."""


@dataclass(slots=True)
class _Patch:
    """One patch, read: either strategic ones or the operations of a JSON patch."""

    entry: PatchEntry
    shown: str
    strategic: list[JSON] = field(default_factory=list)
    operations: list[Any] | None = None


def apply_all(resources: ResourceList, entries: Sequence[PatchEntry], context: Context) -> None:
    """Apply patches in their order.

    Args:
        resources: the objects; changed, and those that a patch deletes left out.
        entries: the patches, as the kustomization has them.
        context: where their files are, and what is known of kinds.

    Raises:
        KustomizeError: a patch cannot be read, meets no object, or does not fit; it names the
            field and, when the patch meets nothing, the objects that come nearest.
    """
    read = []
    for entry in entries:
        with _At(context.file, f"field '{entry.where}'"):
            read.append(_read(entry, context))
    for patch in read:
        with _At(context.file, f"field '{patch.entry.where}'"):
            if patch.operations is not None:
                _apply_json(resources, patch)
            elif patch.entry.kind == "strategic":
                for one in patch.strategic:
                    _apply_copies(resources, one, [_unique(resources, one, context)], patch.entry, context)
            elif patch.entry.target is not None:
                _apply_to_targets(resources, patch, context)
            else:
                for one in patch.strategic:
                    target = _unique(resources, one, context, shown=True)
                    _apply_one(resources, target, one, patch.entry.options, context)
                _drop(resources)


def _read(entry: PatchEntry, context: Context) -> _Patch:
    if entry.kind == "strategic":
        return _read_strategic(entry, context)
    if entry.kind == "json6902":
        return _read_json6902(entry, context)
    text = entry.patch.strip()
    if not text and not entry.path:
        raise KustomizeError("must specify one of patch and path in", detail="expected `patch` or `path`")
    if text and entry.path:
        raise KustomizeError("patch and path can't be set at the same time")
    content = text.encode() if text else _file(entry.path, context)
    shown = f"[path: {_quoted(entry.path)}]" if entry.path else f"[patch: {_quoted(text)}]"
    return _told_apart(entry, content, shown, context)


def _told_apart(entry: PatchEntry, content: bytes, shown: str, context: Context) -> _Patch:
    """Read a text as strategic patches and as a JSON patch, as kustomize does, and see which it is."""
    name = context.root.shown(entry.path) if entry.path else context.file
    strategic: list[JSON] | None = None
    operations: list[Any] | None = None
    problems = []
    if not content.lstrip().startswith(b"["):
        # A text that begins as a list is no object; to read it as one is half of the cost.
        try:
            strategic = load.objects(content, name)
        except KustomizeError as error:
            problems.append(error)
    if strategic is None or not strategic:
        try:
            operations = decode(content, name)
        except KustomizeError as error:
            problems.append(error)
            operations = None
        else:
            if strategic is None:
                return _Patch(entry, shown, operations=operations)
    if strategic is None:
        raise KustomizeError(
            f"unable to parse SM or JSON patch from {shown}",
            place=next((error.place for error in problems if error.place), ""),
            detail="; ".join(error.message for error in problems),
        )
    return _Patch(entry, shown, strategic=strategic)


def _read_strategic(entry: PatchEntry, context: Context) -> _Patch:
    try:
        found = load.objects(entry.path.encode(), context.file)
    except KustomizeError:
        content = _file(entry.path, context)
        found = load.objects(content, context.root.shown(entry.path))
    return _Patch(entry, entry.path, strategic=found)


def _read_json6902(entry: PatchEntry, context: Context) -> _Patch:
    if not (entry.target or {}).get("name"):
        raise KustomizeError("must specify the target name")
    if not entry.path and not entry.patch:
        raise KustomizeError("empty file path and empty jsonOp", detail="expected `path` or `patch`")
    if entry.path and entry.patch:
        raise KustomizeError("must specify a file path or jsonOp, not both")
    content = _file(entry.path, context) if entry.path else entry.patch.encode()
    if not content:
        raise KustomizeError(f"patch file '{entry.path}' empty seems to be empty")
    operations = decode(content, context.root.shown(entry.path) if entry.path else context.file)
    if not operations:
        raise KustomizeError(f"patch appears to be empty; file={entry.path}, JsonOp={entry.patch}")
    return _Patch(entry, entry.path or entry.patch, operations=operations)


def _file(path: str, context: Context) -> bytes:
    try:
        return context.root.read(path)
    except FileNotFoundError:
        raise KustomizeError(
            f"failed to get the patch file from path({path}): no such file",
            detail=f"expected a file {context.root.shown(path)}",
        ) from None


def decode(content: bytes, name: str) -> list[Any]:
    """Read the operations of a JSON patch: JSON when it begins with `[`, else YAML by Go's rules.

    Raises:
        KustomizeError: it is no list of operations.
    """
    if not content:
        raise KustomizeError("empty json patch operations", place=name)
    if content.startswith(b"["):
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise KustomizeError(
                f"invalid JSON: {error}", place=name, hint="a patch that begins with '[' must be JSON"
            ) from None
    else:
        found = load.configuration(content, name)
        if found == {}:
            return []
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) or item is None for item in found):
        raise KustomizeError(
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
            place=name,
            detail="expected a list of operations",
        )
    return found


def _unique(resources: ResourceList, patch: JSON, context: Context, *, shown: bool = False) -> Resource:
    """Find the one object that a patch without target names, by what it is or was called."""
    identity = _identity(patch, context)
    found = [resource for resource in resources.by_any().get(identity, ()) if not resource.deleted]
    if len(found) == 1:
        return found[0]
    problem = f"{'multiple' if found else 'no'} matches for Id {identity}"
    message = f"{problem}; failed to find unique target for patch {identity}"
    if shown:
        message = f'no resource matches strategic merge patch "{identity}": {message}'
    raise KustomizeError(message, hint="" if found else _nearest(resources, identity))


def _identity(patch: JSON, context: Context) -> Id:
    gvk = Gvk(*split_api_version(text_of(patch.get("apiVersion"))), text_of(patch.get("kind")))
    metadata = patch.get("metadata")
    given: Mapping[str, Any] = metadata if isinstance(metadata, dict) else {}
    namespace = context.scopes.effective(gvk, text_of(given.get("namespace")))
    return Id(gvk, namespace, text_of(given.get("name")))


def _nearest(resources: ResourceList, identity: Id) -> str:
    known = {str(resource.id): resource for resource in resources}
    near = difflib.get_close_matches(str(identity), known, _NEAR, 0.5)
    if not near:
        return "the kustomization has no object like it"
    shown = (f"{name} ({known[name].source})" if known[name].source else name for name in near)
    return f"the nearest objects are: {', '.join(shown)}"


def _selected(resources: ResourceList, target: Mapping[str, str]) -> list[Resource]:
    selector = selectors.compile(target)
    name = target.get("name") or ""
    candidates: Iterable[Resource] = resources
    if name and _LITERAL.match(name):
        candidates = resources.by_name().get(name, ())
    return [resource for resource in candidates if not resource.deleted and selector.matches(resource)]


def _apply_json(resources: ResourceList, patch: _Patch) -> None:
    target = patch.entry.target
    if target is None:
        raise KustomizeError(
            f"must specify a target for JSON patch {patch.shown}", detail="expected `target` beside it"
        )
    operations = patch.operations or []
    exposed = any(_reaches_annotations(operation) for operation in operations)
    renames = any(_reaches_identity(operation) for operation in operations)
    changed = False
    for resource in _selected(resources, target):
        before = resource.id if renames else None
        if patch.entry.kind == "patch":
            resource.remember()
        try:
            if exposed:
                _patch_exposed(resource, operations)
            else:
                resource.obj = jsonpatch.apply(resource.obj, operations)
        except KustomizeError as error:
            raise error.at("", f"object {resource.id}") from None
        changed = changed or (before is not None and resource.id != before)
    if changed:
        resources.changed()


def _reaches_annotations(operation: Any) -> bool:
    paths = [operation.get(name) for name in ("path", "from")] if isinstance(operation, dict) else []
    return any(
        isinstance(path, str)
        and (path.count("/") < 2 or path.split("/")[1:3] == ["metadata", "annotations"])
        and path.split("/")[1:2] in ([], ["metadata"], [""])
        for path in paths
    )


def _reaches_identity(operation: Any) -> bool:
    paths = [operation.get(name) for name in ("path", "from")] if isinstance(operation, dict) else []
    return any(
        isinstance(path, str) and path.split("/")[1:2] in ([], ["metadata"], ["kind"], ["apiVersion"], [""])
        for path in paths
    )


def _patch_exposed(resource: Resource, operations: list[Any]) -> None:
    """Patch an object with the annotations in which kustomize keeps its former names, and keep those."""
    resource.expose()
    kept = {name: text for name, text in resource.annotations.items() if name in INTERNAL}
    resource.obj = jsonpatch.apply(resource.obj, operations)
    annotations = {**texts(resource.annotations), **kept}
    metadata = resource.obj.get("metadata")
    if not isinstance(metadata, dict):
        metadata = resource.obj["metadata"] = {}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    resource.absorb()


def _apply_to_targets(resources: ResourceList, patch: _Patch, context: Context) -> None:
    if len(patch.strategic) > 1:
        raise KustomizeError(
            "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set "
            f"`patches.target` field: {patch.shown}",
            hint="write one entry for each",
        )
    selected = _selected(resources, patch.entry.target or {})
    for one in patch.strategic:
        _apply_copies(resources, one, selected, patch.entry, context)


def _apply_copies(
    resources: ResourceList, patch: JSON, selected: list[Resource], entry: PatchEntry, context: Context
) -> None:
    """Apply one patch to several objects; the copies have texts as labels and annotations."""
    patch = _with_texts(patch)
    for resource in selected:
        one = copy_value(patch)
        one["apiVersion"] = resource.api_version
        _apply_one(resources, resource, one, entry.options, context)
    _drop(resources)
    if len(resources.by_current()) != len(resources):
        resources.rebuild()


def _with_texts(patch: JSON) -> JSON:
    metadata = patch.get("metadata")
    if not isinstance(metadata, dict):
        return patch
    patch = {**patch, "metadata": dict(metadata)}
    for name in ("labels", "annotations"):
        given = patch["metadata"].pop(name, None)
        if isinstance(given, dict) and given:
            patch["metadata"][name] = texts(given)
    return patch


def _apply_one(
    resources: ResourceList, resource: Resource, patch: JSON, options: Mapping[str, bool], context: Context
) -> None:
    """Merge a patch into an object; its name, kind and namespace stay unless the options say otherwise."""
    name, namespace, kind = resource.name, resource.namespace, resource.kind
    rename, rekind = bool(options.get("allowNameChange")), bool(options.get("allowKindChange"))
    if rename or rekind:
        resource.remember()
        resources.changed()
    exposed = _touches_annotations(patch)
    if exposed:
        resource.expose()
    try:
        merged = merge.strategic(resource.obj, patch, context.schema)
    except KustomizeError as error:
        raise error.at("", f"object {resource.id}") from None
    resource.obj = merged or {}
    if not resource.obj:
        return
    if not rekind and resource.kind != kind:
        resource.obj["kind"] = yaml.styled(resource.obj.get("kind"), kind)
    if not rename and resource.name != name:
        resource.set_name(name)
    if resource.namespace != namespace:
        resource.set_namespace(namespace)
    if exposed:
        resource.absorb()


def _touches_annotations(patch: JSON) -> bool:
    """Tell whether a patch can reach what kustomize keeps in annotations."""
    metadata = patch.get("metadata")
    if not isinstance(metadata, dict):
        return "metadata" in patch or "$patch" in patch
    if "$patch" in metadata or "$patch" in patch:
        return True
    annotations = metadata.get("annotations", {})
    return (
        not isinstance(annotations, dict) or "$patch" in annotations or not INTERNAL.isdisjoint(annotations)
    )


def _drop(resources: ResourceList) -> None:
    """Leave out what a patch deleted."""
    if any(resource.deleted for resource in resources):
        resources.items[:] = [resource for resource in resources if not resource.deleted]
        resources.changed()


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


class _At:
    """Adds file and field to an error that has none."""

    def __init__(self, place: str, detail: str) -> None:
        self._place = place
        self._detail = detail

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, KustomizeError):
            more = "; ".join(part for part in (self._detail, error.detail) if part)
            raise KustomizeError(
                error.message, place=error.place or self._place, detail=more, hint=error.hint
            ) from None
