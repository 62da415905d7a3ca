"""Reading configuration as Go reads JSON into structs: types checked, names in any case.

Role in the flow: kustomization files, configurations and the configuration of built-in plugins
pass here before anyone looks into them. Knows no field of its own. Source: encoding/json;
sigs.k8s.io/yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from gitwright.formats import scalars
from gitwright.render.kustomize.errors import KustomizeError


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string, a boolean or an integer."""

    name: str


@dataclass(frozen=True, slots=True)
class List:
    """A list of one type."""

    item: Type


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping with keys of the user's."""

    value: Type


@dataclass(frozen=True, slots=True)
class Struct:
    """A mapping with known fields.

    Args:
        name: as Go's messages call it.
        fields: name -> type.
    """

    name: str
    fields: Mapping[str, Type]


Type = Scalar | List | Map | Struct
STRING = Scalar("string")
BOOL = Scalar("bool")
INT = Scalar("int64")
ANY = Scalar("any")
STRINGS = List(STRING)
STRING_MAP = Map(STRING)


def decode(
    value: Any, kind: Struct, place: str, *, strict: bool = True, texts: bool = False, prefix: str = ""
) -> dict[str, Any]:
    """Check a mapping and give it with the names of the fields as they are meant; nulls are left out.

    Args:
        value: what the file holds.
        kind: what is expected.
        place: the file, for messages.
        strict: refuse unknown fields, which are passed by otherwise.
        texts: take numbers and booleans for strings where strings are expected.
        prefix: begins the messages, such as `invalid Kustomization`.

    Raises:
        KustomizeError: a field is unknown (strict) or of a wrong type.
    """
    reader = _Reader(place, prefix, strict=strict, texts=texts)
    found: dict[str, Any] = reader.read(value, kind, kind.name, "")
    return found


class _Reader:
    def __init__(self, place: str, prefix: str, *, strict: bool, texts: bool) -> None:
        self._place = place
        self._strict = strict
        self._texts = texts
        self._prefix = f"{prefix}: " if prefix else ""

    def read(self, value: Any, kind: Type, name: str, path: str) -> Any:
        if isinstance(kind, Scalar):
            return self._scalar(value, kind, name, path)
        if isinstance(kind, List):
            if not isinstance(value, list):
                raise self._wrong(value, "a list", "slice", name, path)
            return [
                self.read(item, kind.item, name, f"{path}[{index}]")
                if item is not None
                else _empty(kind.item)
                for index, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            raise self._wrong(
                value, "a mapping", kind.name if isinstance(kind, Struct) else "map", name, path
            )
        if isinstance(kind, Map):
            return {
                key: self.read(item, kind.value, name, f"{path}.{key}")
                if item is not None
                else _empty(kind.value)
                for key, item in value.items()
            }
        return self._struct(value, kind, path)

    def _struct(self, value: Mapping[str, Any], kind: Struct, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = key if key in kind.fields else _folded(kind, key)
            if name is None:
                if self._strict:
                    raise self._unknown(key, kind, path)
                continue
            where = f"{path}.{name}" if path else name
            if item is not None:
                found[name] = self.read(item, kind.fields[name], f"{kind.name}.{name}", where)
        return found

    def _scalar(self, value: Any, kind: Scalar, name: str, path: str) -> Any:
        if kind is ANY:
            return value
        if kind is STRING:
            if isinstance(value, str):
                return value
            if self._texts and isinstance(value, bool | int | float):
                return _text(value)
            raise self._wrong(value, "a string: put it in quotes", "string", name, path)
        if kind is BOOL:
            if isinstance(value, bool):
                return value
            raise self._wrong(value, "true or false", "bool", name, path)
        if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63:
            return value
        raise self._wrong(value, "an integer", "int64", name, path)

    def _wrong(self, value: Any, expected: str, go: str, name: str, path: str) -> KustomizeError:
        kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
        found = next((word for kind, word in kinds.items() if isinstance(value, kind)), "null")
        return KustomizeError(
            f"{self._prefix}json: cannot unmarshal {found} into Go struct field {name} of type {go}",
            place=self._place,
            detail=f"field '{path}': expected {expected}",
        )

    def _unknown(self, key: str, kind: Struct, path: str) -> KustomizeError:
        near = get_close_matches(key, kind.fields, 1)
        return KustomizeError(
            f'{self._prefix}json: unknown field "{key}"',
            place=self._place,
            detail=f"in '{path}'" if path else "",
            hint=f"did you mean '{near[0]}'?" if near else "",
        )


def _text(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return scalars.float32_text(value) if isinstance(value, float) else str(value)


def _folded(kind: Struct, key: str) -> str | None:
    folded = key.casefold()
    return next((name for name in kind.fields if name.casefold() == folded), None)


def _empty(kind: Type) -> Any:
    """Give what Go makes of null in a list or map: the type's zero value."""
    if isinstance(kind, Scalar):
        return {"string": "", "bool": False, "int64": 0}.get(kind.name)
    return [] if isinstance(kind, List) else {}
