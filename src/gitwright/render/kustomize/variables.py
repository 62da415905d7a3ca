"""`vars`: values of some objects, put where others say `$(NAME)`.

Role in the flow: collected while kustomizations are accumulated, put in once at the end,
after references. Source: kustomize api/filters/refvar, api/types/var, resaccumulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gitwright.render.kustomize import paths
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import FieldSpec
from gitwright.render.kustomize.model import NO_NAMESPACE, Gvk, Resource, ResourceList
from gitwright.render.kustomize.transform_meta import Chosen
from gitwright.render.kustomize.walk import visit

_MAX_TEXT = 64 * 1024 * 1024
"""Characters that all variables together may put into objects (S10)."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A name and the field that it stands for.

    Args:
        name: as it is written in `$(NAME)`.
        path: the field of the object, with dots.
        place: the kustomization file that gives it.
    """

    name: str
    path: str
    place: str


def collect(
    entries: Sequence[Mapping[str, Any]],
    resources: ResourceList,
    known: dict[str, Variable],
    place: str,
) -> None:
    """Find the objects that a kustomization's `vars` read, and keep the variables.

    Args:
        entries: the field `vars`, checked.
        resources: the objects so far; those that are read are marked.
        known: the variables so far; grows.
        place: the kustomization file.

    Raises:
        KustomizeError: a name is given twice, or several objects could be meant.
    """
    for entry in entries:
        name = entry.get("name") or ""
        found = _matches(entry.get("objref") or {}, resources)
        if len(found) > 1:
            raise KustomizeError(
                f"found {len(found)} resId matches for var {name} (unable to disambiguate)",
                place=place,
                detail=", ".join(str(resource.id) for resource in found),
            )
        if found:
            found[0].variables.append(name)
    for entry in entries:
        path = (entry.get("fieldref") or {}).get("fieldPath") or "metadata.name"
        add(known, Variable(entry.get("name") or "", path, place))


def add(known: dict[str, Variable], variable: Variable) -> None:
    """Keep a variable.

    Raises:
        KustomizeError: there is one of this name.
    """
    if variable.name in known:
        raise KustomizeError(
            f"var '{variable.name}' already encountered",
            place=variable.place,
            detail=f"the other is in {known[variable.name].place}",
        )
    known[variable.name] = variable


def _matches(target: Mapping[str, str], resources: ResourceList) -> list[Resource]:
    group, version = target.get("group") or "", target.get("version") or ""
    parts = (target.get("apiVersion") or "").split("/")
    if len(parts) == 2:
        group, version = parts
    elif parts[0] and len(parts) == 1:
        version = parts[0]
    gvk = Gvk(group, version, target.get("kind") or "")
    name, namespace = target.get("name") or "", target.get("namespace") or ""
    found = []
    # The identity that is meant counts as cluster-scoped only when that is written into it,
    # which a kustomization cannot do.
    wanted = namespace or "default"
    for resource in resources.by_name().get(name, ()):
        for identity in (*resource.formers, resource.id):
            same = identity.gvk == gvk and identity.name == name
            if same and (not namespace or _effective(identity.namespace) == wanted):
                found.append(resource)
                break
    return found


def _effective(namespace: str) -> str:
    return "" if namespace == NO_NAMESPACE else namespace


def resolve(
    resources: ResourceList,
    known: Mapping[str, Variable],
    specs: Sequence[FieldSpec],
    warnings: list[str],
) -> None:
    """Put the values of all variables where they are named.

    Raises:
        KustomizeError: a variable has no object or no field, or stands where no string can be.
    """
    if not known:
        return
    values = _values(resources, known)
    replacer = _Replacer(values)
    chosen = Chosen(specs)
    for resource in resources:
        for spec in chosen.of(resource.gvk):
            visit(resource, spec, replacer.field)
    unused = sorted(set(values) - replacer.used)
    if unused:
        warnings.append(f"well-defined vars that were never replaced: {','.join(unused)}")


def _values(resources: ResourceList, known: Mapping[str, Variable]) -> dict[str, Any]:
    holders: dict[str, Resource] = {}
    for resource in resources:
        for name in resource.variables:
            holders.setdefault(name, resource)
    values = {}
    for name in sorted(known):
        variable = known[name]
        if name not in holders:
            raise KustomizeError(
                f"var '{name}' cannot be mapped to a field in the set of known resources",
                place=variable.place,
                detail="field 'vars': no object matches its objref",
            )
        try:
            values[name] = paths.field_value(holders[name].obj, variable.path)
        except KustomizeError as error:
            raise KustomizeError(
                f"field specified in var '{name}' not found in corresponding resource",
                place=variable.place,
                detail=f"'{variable.path}' in {holders[name].id}: {error.message}",
            ) from None
    return values


class _Replacer:
    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._left = _MAX_TEXT
        self.used: set[str] = set()

    def field(self, container: dict[str, Any], name: str) -> None:
        value = container[name]
        if isinstance(value, str):
            container[name] = self.expand(value)
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, str):
                    value[key] = self.expand(item)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if not isinstance(item, str):
                    raise KustomizeError("invalid value type expect a string", detail=f"at '{name}'")
                value[index] = self.expand(item)

    def expand(self, text: str) -> Any:
        """Replace what stands in `$(...)`; `$$` is a dollar sign, an unknown name stays."""
        if "$" not in text:
            return text
        parts: list[str] = []
        start = cursor = 0
        while cursor < len(text) - 1:
            if text[cursor] != "$":
                cursor += 1
                continue
            parts.append(text[start:cursor])
            following = text[cursor + 1]
            end = text.find(")", cursor + 2) if following == "(" else -1
            if following == "$":
                parts.append("$")
                cursor += 2
            elif end >= 0:
                name = text[cursor + 2 : end]
                value = self._value(name)
                if text == f"$({name})":
                    return value
                parts.append(_shown(value))
                self._left -= len(parts[-1])
                if self._left < 0:
                    raise KustomizeError(f"variables make more than {_MAX_TEXT} characters")
                cursor = end + 1
            else:
                parts.append(f"${following}")
                cursor += 2
            start = cursor
        return "".join(parts) + text[start:]

    def _value(self, name: str) -> Any:
        value = self._values.get(name)
        if isinstance(value, str | int | float | bool):
            self.used.add(name)
            return value
        return f"$({name})"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _go_float(value)
    return str(value)


def _go_float(value: float) -> str:
    """Write a float as Go's `%v` does."""
    text = repr(value)
    exponent = Decimal(text).adjusted() if value else 0
    if -4 <= exponent < 21:
        plain = format(Decimal(text), "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    digits = "".join(map(str, Decimal(text).as_tuple().digits)).rstrip("0") or "0"
    sign = "-" if value < 0 else ""
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
