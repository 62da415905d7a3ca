"""`replacements`: the value of one field, copied to others.

Role in the flow: the last of a kustomization's own transformers. Values keep the type of the
field that they go to, as kustomize changes the text of a field and not its type.
Source: kustomize api/filters/replacement, ReplacementTransformer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitwright.render.kustomize import load, paths, regex, selectors, structured, typed
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.model import Gvk, Resource, ResourceList, copy_value, text_of
from gitwright.render.kustomize.paths import FRESH, Cell, Create
from gitwright.render.kustomize.tree import Root

_PLAIN = re.compile(r"[A-Za-z0-9/_-]+\Z")
_NAME = "metadata.name"


@dataclass(frozen=True, slots=True)
class Entry:
    """One replacement and where it stands."""

    content: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class _Known:
    """An identity as selectors see it: a former namespace is the effective one, the present as written."""

    gvk: Gvk
    name: str
    namespace: str


def entries(items: Sequence[Mapping[str, Any]], root: Root, place: str) -> list[Entry]:
    """Read the replacements of a kustomization, those in files too.

    Args:
        items: the field `replacements`, checked.
        root: where files are read.
        place: the kustomization file.

    Raises:
        KustomizeError: a file is missing or is no replacement.
    """
    found = []
    for index, item in enumerate(items):
        at = f"{place}: replacements[{index}]"
        path = item.get("path")
        if not path:
            found.append(Entry(item, at))
            continue
        if item.get("source") is not None or item.get("targets"):
            raise KustomizeError("cannot specify both path and inline replacement", place=at)
        try:
            content = load.configuration(root.read(path), root.shown(path))
        except FileNotFoundError:
            raise KustomizeError(
                f"open {root.shown(path)}: no such file or directory", place=at, detail="field 'path'"
            ) from None
        if not isinstance(content, dict | list):
            raise KustomizeError(
                "unsupported replacement type encountered within replacement path", place=root.shown(path)
            )
        for value in content if isinstance(content, list) else [content]:
            decoded = typed.decode(value, load.REPLACEMENT, root.shown(path), strict=False, texts=True)
            found.append(Entry(decoded, root.shown(path)))
    return found


_MAX_NODES = 400_000
"""Values that the replacements of one kustomization may copy (S10)."""
_MAX_TEXT = 4 * 1024 * 1024
"""Characters of a text that is put together (S10)."""


@dataclass(slots=True)
class _Budget:
    left: int = _MAX_NODES

    def spend(self, value: Any) -> None:
        """Count the values in a value that is about to be copied."""
        pending = [value]
        while pending:
            one = pending.pop()
            self.left -= 1
            if self.left < 0:
                raise KustomizeError(f"replacements copy more than {_MAX_NODES} values")
            if isinstance(one, dict):
                pending.extend(one.values())
            elif isinstance(one, list):
                pending.extend(one)


def apply(resources: ResourceList, found: Iterable[Entry]) -> None:
    """Copy the values.

    Raises:
        KustomizeError: a source or a field is not there, or a value does not fit.
    """
    budget = _Budget()
    for entry in found:
        try:
            _apply(resources, entry.content, budget)
        except KustomizeError as error:
            raise error.at(entry.place) from None
    resources.changed()


def _apply(resources: ResourceList, content: Mapping[str, Any], budget: _Budget) -> None:
    source, constant = content.get("source"), content.get("sourceValue")
    if (source is None and constant is None) or not content.get("targets"):
        raise KustomizeError("replacements must specify a source and at least one target")
    if source is not None and constant is not None:
        raise KustomizeError("value and resource selectors are mutually exclusive")
    value = _Value(constant, fresh=True) if source is None else _value(resources, source)
    for target in content["targets"]:
        if target.get("select") is None:
            raise KustomizeError("target must specify resources to select")
        selector = _Selector(target)
        fields = target.get("fieldPaths") or [_NAME]
        for resource in list(_candidates(resources, target["select"])):
            if selector.matches(resource):
                for path in fields:
                    budget.spend(value.value)
                    _copy(resource, path, value, target.get("options") or {})
        if any(path.startswith(("metadata", "kind", "apiVersion")) for path in fields):
            resources.changed()


@dataclass(frozen=True, slots=True)
class _Value:
    """What is copied; a fresh one has no type of its own."""

    value: Any
    fresh: bool = False

    @property
    def text(self) -> str:
        return text_of(self.value)

    @property
    def kind(self) -> Create:
        return "map" if isinstance(self.value, dict) else "list" if isinstance(self.value, list) else "scalar"

    def copy(self) -> Any:
        return paths.plain(self.text) if self.fresh else copy_value(self.value)


def _value(resources: ResourceList, source: Mapping[str, Any]) -> _Value:
    resource = _source(resources, source)
    path = source.get("fieldPath") or _NAME
    cell = paths.lookup(resource.obj, paths.split(path))
    if cell is None or cell.value is None or cell.value in ({}, []):
        raise KustomizeError(
            f"fieldPath `{path}` is missing for replacement source {_shown(source)}",
            detail=f"{resource.id} of {resource.source}" if resource.source else "",
        )
    options = source.get("options") or {}
    delimiter = options.get("delimiter")
    if not delimiter:
        return _Value(cell.value)
    if isinstance(cell.value, dict | list):
        raise KustomizeError("delimiter option can only be used with scalar nodes")
    parts = text_of(cell.value).split(delimiter)
    index = options.get("index") or 0
    if not 0 <= index < len(parts):
        raise KustomizeError(f"options.index {index} is out of bounds for value {text_of(cell.value)}")
    return _Value(paths.retyped(cell.value, parts[index]))


def _source(resources: ResourceList, source: Mapping[str, Any]) -> Resource:
    gvk = Gvk(source.get("group") or "", source.get("version") or "", source.get("kind") or "")
    name, namespace = source.get("name") or "", source.get("namespace") or ""
    matches = []
    for resource in resources.by_name().get(name, ()) if name else resources:
        for known in _ids(resource):
            same_namespace = not namespace or (known.namespace or "default") == namespace
            if (not name or known.name == name) and same_namespace and known.gvk.selected_by(gvk):
                matches.append(resource)
                break
    if len(matches) > 1:
        raise KustomizeError(
            f"multiple matches for selector {_shown(source)}",
            detail=", ".join(str(resource.id) for resource in matches[:5]),
        )
    if not matches:
        kinds = sorted({str(one.id) for one in resources if not gvk.kind or one.kind == gvk.kind})[:5]
        raise KustomizeError(
            f"nothing selected by {_shown(source)}", hint=f"there are: {', '.join(kinds)}" if kinds else ""
        )
    return matches[0]


def _shown(source: Mapping[str, Any]) -> str:
    gvk = Gvk(source.get("group") or "", source.get("version") or "", source.get("kind") or "")
    place = f"{source.get('name') or '[noName]'}.{source.get('namespace') or '[noNs]'}"
    path = source.get("fieldPath")
    return f"{gvk}/{place}" + (f":{path}" if path else "")


def _ids(resource: Resource) -> list[_Known]:
    group_version = resource.gvk
    found = [_Known(group_version, resource.name, resource.namespace)]
    found += [
        _Known(group_version._replace(kind=former.kind), former.name, former.namespace)
        for former in resource.former
    ]
    return found


def _candidates(resources: ResourceList, select: Mapping[str, Any]) -> Iterable[Resource]:
    name = select.get("name") or ""
    return resources.by_name().get(name, ()) if _PLAIN.match(name) else resources


class _Selector:
    """The objects that a target means: selected by one of their identities, rejected by none."""

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._select = _Pattern(target["select"])
        self._reject = [_Pattern(one) for one in target.get("reject") or ()]

    def matches(self, resource: Resource) -> bool:
        """Tell whether an object is meant."""
        if not self._select.labelled(resource):
            return False
        if any(pattern.by_labels and pattern.labelled(resource) for pattern in self._reject):
            return False
        known = _ids(resource)
        if any(pattern.by_id and any(map(pattern.matches, known)) for pattern in self._reject):
            return False
        return any(map(self._select.matches, known))


class _Pattern:
    def __init__(self, selector: Mapping[str, Any]) -> None:
        names = ("group", "version", "kind", "name", "namespace")
        try:
            self._patterns = {name: regex.compile(selector[name]) for name in names if selector.get(name)}
        except ValueError as error:
            raise KustomizeError(f"error parsing regexp: {error}", detail="in a selector") from None
        labels = {name: selector.get(name) or "" for name in ("labelSelector", "annotationSelector")}
        self.by_id = bool(self._patterns)
        self.by_labels = any(labels.values())
        self._labels = selectors.compile(labels) if self.by_labels else None

    def labelled(self, resource: Resource) -> bool:
        """Tell whether labels and annotations are as the selector asks; without one they are."""
        return self._labels is None or self._labels.matches(resource)

    def matches(self, known: _Known) -> bool:
        """Tell whether an identity is meant."""
        values = {
            "group": known.gvk.group,
            "version": known.gvk.version,
            "kind": known.gvk.kind,
            "name": known.name,
            "namespace": known.namespace,
        }
        return all(pattern(values[name]) for name, pattern in self._patterns.items())


def _copy(resource: Resource, path: str, value: _Value, options: Mapping[str, Any]) -> None:
    create: Create = value.kind if options.get("create") else ""
    parts = paths.split(path)
    try:
        if structured.replace(resource.obj, parts, value.value, create):
            return
        cells = paths.match(Cell([resource.obj], 0), parts, create)
    except KustomizeError as error:
        raise _missing(resource, path, error.message, create=bool(create)) from None
    if not cells:
        raise _missing(resource, path, "", create=bool(create))
    for cell in cells:
        _set(cell, value, options)


def _missing(resource: Resource, path: str, why: str, *, create: bool) -> KustomizeError:
    what = "find or create" if create else "find"
    message = f'unable to {what} field "{path}" in replacement target'
    detail = f"{resource.id} of {resource.source}" if resource.source else str(resource.id)
    return KustomizeError(f"{message}: {why}" if why else message, detail=detail)


def _set(cell: Cell, value: _Value, options: Mapping[str, Any]) -> None:
    old = cell.value
    scalar = not isinstance(old, dict | list)
    delimiter = options.get("delimiter")
    text = value.text
    if delimiter:
        if not scalar:
            raise KustomizeError("delimiter option can only be used with scalar nodes")
        parts = ("" if old is FRESH else text_of(old)).split(delimiter)
        index = options.get("index") or 0
        if index < 0:
            parts.insert(0, text)
        elif index >= len(parts):
            parts.append(text)
        else:
            parts[index] = text
        text = delimiter.join(parts)
        if len(text) > _MAX_TEXT:
            raise KustomizeError(f"a replacement makes a text of more than {_MAX_TEXT} characters")
    if cell.lost:
        return
    if scalar:
        cell.put(paths.put_text(cell, text))
    elif delimiter:
        cell.put(text)
    else:
        cell.put(value.copy())
