"""Which fields a transformer changes: the defaults and what a kustomization adds to them.

Role in the flow: `accumulate` merges one `Configuration` per kustomization and hands its lists
to the transformers, which walk objects by them (`walk`). Source: kustomize
api/internal/plugins/builtinconfig, api/types/fieldspec.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gitwright.core.objects import JSON
from gitwright.render.kustomize import defaults, typed
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.model import Gvk
from gitwright.render.kustomize.sort import kind_rank

Steps = tuple[tuple[str, bool], ...]
"""A path in parts: the name of a field, and whether it must be a list (`name[]`)."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    r"""One field of some kinds.

    Args:
        gvk: the kinds; empty parts stand for any.
        path: names with `/` between, `\/` for a slash in a name, `[]` behind a list.
        create: whether the field is made where it is missing.
    """

    gvk: Gvk
    path: str
    create: bool = False

    def matches(self, gvk: Gvk) -> bool:
        """Tell whether the field is one of an object of this kind."""
        return gvk.selected_by(self.gvk)


@functools.cache
def steps_of(path: str) -> Steps:
    """Split a path into its parts."""
    return tuple((name.removesuffix("[]"), name.endswith("[]")) for name in split_path(path, "/"))


def split_path(path: str, delimiter: str) -> list[str]:
    """Split at a delimiter that a backslash can protect; one delimiter in front is passed over."""
    parts = path.split(delimiter)
    if len(parts) > 1 and not parts[0]:
        parts = parts[1:]
    found = [parts[0]]
    for part in parts[1:]:
        if found[-1].endswith("\\"):
            found[-1] = found[-1][:-1] + delimiter + part
        else:
            found.append(part)
    return found


def merge(into: Sequence[FieldSpec], more: Iterable[FieldSpec]) -> list[FieldSpec]:
    """Add field specs to others, those that are there already left out.

    Raises:
        KustomizeError: one says to create the field and the other not to.
    """
    found = list(into)
    by_path: dict[str, list[FieldSpec]] = {}
    for spec in found:
        by_path.setdefault(spec.path, []).append(spec)
    for spec in more:
        same = by_path.setdefault(spec.path, [])
        known = next((other for other in same if other.gvk.selected_by(spec.gvk)), None)
        if known is None:
            found.append(spec)
            same.append(spec)
        elif known.create != spec.create:
            raise KustomizeError("conflicting fieldspecs", detail=f"field '{spec.path}' of {spec.gvk}")
    return found


_T = TypeVar("_T")


class ByKind(Generic[_T]):
    """Things that belong to field specs, found by the kind of an object, in their order.

    Args:
        items: field specs, each with what belongs to it.
    """

    def __init__(self, items: Iterable[tuple[FieldSpec, _T]]) -> None:
        self._by_kind: dict[str, list[tuple[int, FieldSpec, _T]]] = {}
        for order, (found, value) in enumerate(items):
            self._by_kind.setdefault(found.gvk.kind, []).append((order, found, value))
        self._known: dict[Gvk, list[tuple[FieldSpec, _T]]] = {}

    def of(self, gvk: Gvk) -> list[tuple[FieldSpec, _T]]:
        """Give the field specs that mean objects of a kind, with what belongs to them."""
        known = self._known.get(gvk)
        if known is None:
            named = self._by_kind.get(gvk.kind, ()) if gvk.kind else ()
            entries = sorted([*self._by_kind.get("", ()), *named], key=lambda entry: entry[0])
            known = [(found, value) for _, found, value in entries if found.matches(gvk)]
            self._known[gvk] = known
        return known


References = list[tuple[Gvk, list[FieldSpec]]]

_LISTS = (
    "namePrefix",
    "nameSuffix",
    "namespace",
    "commonLabels",
    "labels",
    "templateLabels",
    "commonAnnotations",
    "varReference",
    "images",
    "replicas",
)
_GVK = {"group": typed.STRING, "version": typed.STRING, "kind": typed.STRING}
FIELD_SPEC = typed.Struct("FieldSpec", {**_GVK, "path": typed.STRING, "create": typed.BOOL})
_CONFIGURATION = typed.Struct(
    "TransformerConfig",
    {
        **dict.fromkeys(_LISTS, typed.List(FIELD_SPEC)),
        "nameReference": typed.List(
            typed.Struct("NameBackReferences", {**_GVK, "fieldSpecs": typed.List(FIELD_SPEC)})
        ),
    },
)


@dataclass(slots=True)
class Configuration:
    """The fields of all transformers.

    Args:
        fields: name of the transformer's list, as in a configuration file -> field specs.
        references: the kind that is named -> where it is named, in order of the kinds.
    """

    fields: dict[str, list[FieldSpec]] = field(default_factory=dict)
    references: References = field(default_factory=list)

    def of(self, name: str) -> list[FieldSpec]:
        """Give the field specs of one list."""
        return self.fields.get(name, [])

    def merge(self, other: Configuration) -> Configuration:
        """Give both together, sorted by kind.

        The order counts: a spec for some kinds that comes before one for all of the same path
        takes its place.

        Raises:
            KustomizeError: they contradict each other.
        """
        if self is other or not (other.fields or other.references):
            return self
        if other is default() and not (self.fields or self.references):
            return other
        names = dict.fromkeys([*self.fields, *other.fields])
        fields = {name: _sorted(merge(self.of(name), other.of(name))) for name in names}
        references = dict(self.references)
        for gvk, specs in other.references:
            references[gvk] = merge(references[gvk], specs) if gvk in references else specs
        return Configuration(fields, sorted(references.items(), key=lambda entry: kind_rank(entry[0])))


def _sorted(specs: Iterable[FieldSpec]) -> list[FieldSpec]:
    return sorted(specs, key=lambda found: kind_rank(found.gvk))


def read(content: JSON, place: str) -> Configuration:
    """Read a configuration as a file of `configurations` gives it.

    Raises:
        KustomizeError: a field is unknown or of a wrong type.
    """
    value = typed.decode(content, _CONFIGURATION, place, texts=True)
    fields = {name: _sorted(spec(entry) for entry in value[name]) for name in _LISTS if value.get(name)}
    references: dict[Gvk, list[FieldSpec]] = {}
    entries = [(gvk(entry), entry.get("fieldSpecs") or []) for entry in value.get("nameReference") or []]
    for target, specs in sorted(entries, key=lambda entry: kind_rank(entry[0])):
        references[target] = [*references.get(target, []), *(spec(entry) for entry in specs)]
    return Configuration(fields, list(references.items()))


def gvk(entry: JSON) -> Gvk:
    """Read group, version and kind of a selector."""
    return Gvk(entry.get("group") or "", entry.get("version") or "", entry.get("kind") or "")


def spec(entry: Any) -> FieldSpec:
    """Read one field spec that `typed` has checked."""
    return FieldSpec(gvk(entry), entry.get("path") or "", bool(entry.get("create")))


@functools.cache
def default() -> Configuration:
    """Give kustomize's own configuration; it is shared and must not be changed."""
    fields = {name: _sorted(_lines(text)) for name, text in defaults.FIELDS.items()}
    references = [(_gvk(target), list(_lines(text))) for target, text in defaults.REFERENCES.items()]
    return Configuration(fields, sorted(references, key=lambda entry: kind_rank(entry[0])))


def _lines(text: str) -> Iterable[FieldSpec]:
    path = ""
    for line in text.splitlines():
        words = line.split()
        if not line.startswith(" " * 12) and words:
            path = words.pop(0)
        for word in words:
            yield FieldSpec(_gvk(word), path.removesuffix("+"), path.endswith("+"))


def _gvk(word: str) -> Gvk:
    if word == "*":
        return Gvk("", "", "")
    group, version, kind = word.rsplit("/", 2) if "/" in word else ("", "", word)
    return Gvk(group, version, kind)
