"""Fields by path with dots, as `replacements` and `vars` name them.

Role in the flow: finds cells (a container and a key in it) of an object; who asked reads or
writes them. Source: kustomize kyaml/yaml PathGetter and PathMatcher, kyaml/utils.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gitwright.formats import scalars, yaml
from gitwright.render.kustomize import regex
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import split_path
from gitwright.render.kustomize.model import Untyped, text_of

Create = Literal["", "scalar", "map", "list"]
"""What is made at the end of a path that is not there; empty makes nothing."""
_INDEX = re.compile(r"[-+]?[0-9]+\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_/:@ -]*\Z")
_INDEXED = re.compile(r"(.*)\[([0-9]+)\]\Z", re.DOTALL)


class Fresh:
    """Stands for a scalar that was just made and has no value and no type yet."""


FRESH = Fresh()


@dataclass(slots=True)
class Cell:
    """A place that holds a value: a mapping and a key, or a list and an index.

    Args:
        container: the mapping or list.
        key: the key or index.
        lost: whether it is in a copy, so that a change is none.
    """

    container: Any
    key: Any
    lost: bool = False

    @property
    def value(self) -> Any:
        """What is there."""
        return self.container[self.key]

    def put(self, value: Any) -> None:
        """Change what is there."""
        self.container[self.key] = value


def split(path: str) -> list[str]:
    """Split a path at its dots; those in `[name=a.b]` and behind a backslash do not count."""
    found = []
    parts = iter(split_path(path, "."))
    for part in parts:
        if not part.startswith("[") or part.endswith("]"):
            found.append(part)
            continue
        bracketed = [part]
        for more in parts:
            bracketed.append(more)
            if more.endswith("]"):
                break
        text = ".".join(bracketed)
        found.append(text if "=" in text else text.strip("[]"))
    return found


def field_value(obj: dict[str, Any], path: str) -> Any:
    """Give the value at a path in which `name[0]` is an item of a list.

    Raises:
        KustomizeError: there is no such field.
    """
    parts: list[str] = []
    for part in split(path):
        found = _INDEXED.match(part)
        parts += [text for text in found.groups() if text] if found else [part]
    cell = lookup(obj, parts)
    if cell is None:
        raise KustomizeError(f"no field named '{path}'")
    value = cell.value
    return text_of(value) if value is None else value


def lookup(obj: Any, parts: list[str]) -> Cell | None:
    """Find one field; no wildcards, and `[name=value]` must be equal.

    Raises:
        KustomizeError: the path goes through something that is no map or no list.
    """
    cell = Cell([obj], 0)
    for part in (text.strip() for text in parts):
        if not part:
            continue
        found = _step(cell.value, part)
        if found is None:
            return None
        cell = found
    return cell


def _step(value: Any, part: str) -> Cell | None:
    if _INDEX.match(part) or part == "-":
        items = _items(value)
        index = -1 if part == "-" else int(part)
        if part != "-" and index < 0:
            raise KustomizeError(f"array index {index} cannot be negative")
        if index >= len(items) or not items:
            return None
        return Cell(items, index)
    if part == "*":
        raise KustomizeError("wildcard is not supported in PathGetter")
    if part.startswith("[") and part.endswith("]"):
        name, wanted = _condition(part)
        for index, item in enumerate(_items(value)):
            if name:
                if isinstance(item, dict) and name in item and text_of(item[name]) == wanted:
                    return Cell(value, index)
            elif text_of(item) == wanted:
                return Cell(value, index)
        return None
    return _field(value, part)


def _field(value: Any, name: str) -> Cell | None:
    if value is None:
        return None
    if not name:
        raise KustomizeError("wrong node kind: expected ScalarNode", detail="an empty part of a path")
    if not isinstance(value, dict):
        kind = "SequenceNode" if isinstance(value, list) else "ScalarNode"
        raise KustomizeError(f"wrong node kind: expected MappingNode but got {kind}", detail=f"at '{name}'")
    return Cell(value, name) if name in value else None


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        kind = "MappingNode" if isinstance(value, dict) else "ScalarNode"
        raise KustomizeError(f"wrong node kind: expected SequenceNode but got {kind}")
    return value


def _condition(part: str) -> tuple[str, str]:
    name, equals, value = part[1:-1].partition("=")
    if not equals:
        raise KustomizeError("list path element must contain fieldName=fieldValue for element to match")
    return name, value


def match(cell: Cell, parts: list[str], create: Create = "") -> list[Cell] | None:
    """Find all fields of a path: `*` is every item, the value in `[name=value]` a regular expression.

    Args:
        cell: where to begin.
        parts: the path.
        create: what is made of the field when it is not there.

    Raises:
        KustomizeError: the path goes through something that is no map or no list.
    """
    if not parts:
        return [cell]
    part, rest = parts[0], parts[1:]
    if _INDEX.match(part) and int(part) >= 0:
        return _at(cell, int(part), rest, create)
    if part.startswith("[") and part.endswith("]"):
        return _where(cell, part, rest, create)
    if part == "*":
        found: list[Cell] = []
        items = _items(cell.value)
        for index in range(len(items)):
            found += match(Cell(items, index), rest, create) or []
        return found or None
    return _named(cell, part, rest, create)


def _at(cell: Cell, index: int, rest: list[str], create: Create) -> list[Cell] | None:
    items = _items(cell.value)
    if len(items) == index and create:
        items = _appendable(cell)
        items.append(_made(rest, create))
    if len(items) <= index:
        raise KustomizeError(f"index {index} specified but only {len(items)} elements found")
    return match(Cell(items, index), rest, create)


def _appendable(cell: Cell) -> list[Any]:
    if cell.value is None or cell.value is FRESH:
        cell.put([])
    found = cell.value
    return found if isinstance(found, list) else []


def _where(cell: Cell, part: str, rest: list[str], create: Create) -> list[Cell] | None:
    name, wanted = _condition(part)
    found_in = _search(wanted, part)
    for last in (False, True):
        found: list[Cell] = []
        for index, item in enumerate(_items(cell.value)):
            here = Cell(cell.value, index)
            if not name:
                if found_in(_as_yaml(item)):
                    found.append(here)
            elif isinstance(item, dict) and name in item and found_in(_as_yaml(item[name])):
                found += match(here, rest, create) or []
        if found or not create or last:
            return found or None
        _appendable(cell).append({name: plain(wanted)} if name else plain(wanted))
    return None


def _as_yaml(value: Any) -> str:
    """Give a scalar as YAML has it, quotes included: patterns are matched against that."""
    text = text_of(value).strip()
    return f'"{text}"' if isinstance(value, yaml.Quoted) else text


def _search(pattern: str, part: str) -> Callable[[str], bool]:
    """Give the test whether a pattern is found anywhere in a text."""
    if _PLAIN.match(pattern):
        return lambda text: pattern in text
    try:
        return regex.compile(rf"(?s:.*)(?:{pattern})(?s:.*)")
    except ValueError as error:
        raise KustomizeError(f"error parsing regexp: {error}", detail=f"at '{part}'") from None


def _named(cell: Cell, name: str, rest: list[str], create: Create) -> list[Cell] | None:
    found = _field(cell.value, name)
    if found is None:
        if not create:
            return None
        if cell.value is None:
            # A null stays one; what is made below it is lost, as it is with kustomize.
            return _lost(match(Cell([_made(rest, create)], 0), rest, create))
        cell.value[name] = _made(rest, create)
        found = Cell(cell.value, name)
    value = found.value
    if rest and not isinstance(value, dict | list) and value is not FRESH:
        # Text that holds YAML: found in a copy, so that nothing changes here.
        return _lost(match(Cell([parse_text(text_of(value))], 0), rest, create))
    return match(found, rest, create)


def _lost(cells: list[Cell] | None) -> list[Cell] | None:
    for cell in cells or ():
        cell.lost = True
    return cells


def _made(rest: list[str], create: Create) -> Any:
    following = rest[0] if rest else ""
    if not following:
        return FRESH if create == "scalar" else [] if create == "list" else {}
    if (following.startswith("[") and following.endswith("]")) or following.isdigit():
        return []
    return {}


def parse_text(text: str) -> Any:
    """Read a string that may hold YAML or JSON.

    Raises:
        KustomizeError: it holds neither.
    """
    try:
        documents = yaml.parse(str(text), kyaml=True)
    except yaml.YamlError as error:
        raise KustomizeError(error.message) from None
    return documents[0].value if documents else None


def plain(text: str) -> Any:
    """Give what a text means when it is written without quotes and without a type."""
    # An empty text is written in quotes.
    return scalars.resolve_kyaml(text) if text else ""


def put_text(cell: Cell, text: str) -> Any:
    """Give what a text becomes in a cell that holds a scalar.

    Raises:
        KustomizeError: it cannot be of the type of what is there.
    """
    if cell.value is FRESH and not text:
        # Nothing behind a key is null, nothing in a list is an empty text.
        return None if isinstance(cell.container, dict) else ""
    return retyped(cell.value, text)


def retyped(old: Any, text: str) -> Any:
    """Give a text as the type of the value that it replaces.

    Raises:
        KustomizeError: it cannot be of that type.
    """
    if old is FRESH or isinstance(old, Untyped | scalars.LooseInt | scalars.LooseFloat):
        return scalars.loose(text) if text else ""
    if isinstance(old, str):
        return yaml.styled(old, text)
    value = plain(text)
    written = getattr(old, "text", "")
    if isinstance(old, bool) or isinstance(value, bool) or old is None or value is None:
        fits = type(old) is type(value)
    elif isinstance(old, float) or "." in written or "e" in written.lower():
        fits = isinstance(value, int | float)
    else:
        fits = isinstance(value, int) and "." not in text
    if not fits:
        kinds = {bool: "bool", int: "int", float: "float", str: "str"}
        has = next((word for kind, word in kinds.items() if isinstance(value, kind)), "null")
        wants = next((word for kind, word in kinds.items() if isinstance(old, kind)), "null")
        raise KustomizeError(f"yaml: cannot decode !!{has} `{text}` as a !!{wants}")
    return value
