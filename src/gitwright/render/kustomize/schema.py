"""What is known of the fields of kinds, as far as strategic merge patches need it.

Role in the flow: merge asks it which lists are merged by which keys. The built-in table is the
one kustomize holds (Kubernetes 1.21), made by tools/mergekeys; a build with schemas of the
user's own gets a table of its own, so that nothing leaks from one build into another.
Source: kustomize kyaml/openapi.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Protocol

import orjson

from gitwright.core.objects import JSON

_LEAF = -1


class Schema:
    """What is known of one field; what is below it is looked up when asked for.

    Args:
        table: the table it is from.
        node: its entry there.
    """

    __slots__ = ("_fields", "_items", "_node", "_table", "keys")

    def __init__(self, table: Table, node: Any) -> None:
        self._table = table
        self._node: JSON = node if isinstance(node, dict) else {}
        self._fields: dict[str, Schema | None] = {}
        self._items: Schema | None = None
        found = self._node.get("k")
        # None: the list is replaced; empty: it is a list of scalars that are merged.
        self.keys: tuple[str, ...] | None = None if found is None else tuple(found)

    def field(self, name: str) -> Schema | None:
        """Give what is known of a field of a map, None when nothing is."""
        try:
            return self._fields[name]
        except KeyError:
            node = self._node.get("p", {}).get(name, self._node.get("m"))
            found = self._fields[name] = None if node is None else self._table.schema(node)
            return found

    def items(self) -> Schema | None:
        """Give what is known of the items of a list."""
        if self._items is None and "a" in self._node:
            self._items = self._table.schema(self._node["a"])
        return self._items


class Lookup(Protocol):
    """What merge needs: the schema of a kind."""

    def kind(self, api_version: str, kind: str) -> Schema | None:
        """Give what is known of a kind, None when nothing is."""


class Table:
    """Schemas by number and by kind.

    Args:
        definitions: the entries, in the form that tools/mergekeys describes.
        kinds: `apiVersion kind` -> number of an entry.
    """

    def __init__(self, definitions: Sequence[Any], kinds: Mapping[str, int]) -> None:
        self._definitions = definitions
        self._kinds = kinds
        self._known: dict[int, Schema] = {}

    def kind(self, api_version: str, kind: str) -> Schema | None:
        """Give what is known of a kind."""
        number = self._kinds.get(f"{api_version} {kind}")
        return None if number is None else self.schema(number)

    def schema(self, node: Any) -> Schema:
        """Give the schema of an entry or of the number of one; references are followed."""
        numbers: list[int] = []
        while isinstance(node, int) and node != _LEAF:
            known = self._known.get(node)
            if known is not None:
                break
            if node in numbers:  # a schema that is only itself, which a user may write
                node = _LEAF
                break
            numbers.append(node)
            node = self._definitions[node]
        found = self._known[node] if isinstance(node, int) and node != _LEAF else Schema(self, node)
        for number in numbers:
            self._known[number] = found
        return found


@functools.cache
def built_in() -> Table:
    """Give the table of Kubernetes' kinds; it only ever grows by what is looked up in it."""
    packed = (resources.files(__package__) / "schema.json.gz").read_bytes()
    found = orjson.loads(gzip.decompress(packed))
    return Table(found["definitions"], found["kinds"])
