"""Strategic merge patches, as kustomize applies them.

Role in the flow: patches (and nothing else) merge objects here. Pure: values in, values out.
kustomize's merge differs from the API server's: what a patch brings is put first, only the
directive `$patch` is known, and lists with items that lack their key take strange ways, which
are followed here. Source: kustomize kyaml/yaml/merge2 and kyaml/yaml/walk.
"""

from __future__ import annotations

from typing import Any, Final

from gitwright.core.objects import JSON
from gitwright.formats.scalars import OLD_WORDS, LooseFloat, LooseInt, resolve_kyaml, text_of
from gitwright.formats.yaml import Blanks, Quoted, Shared, share, styled, written
from gitwright.render.kustomize import lists
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.schema import Lookup, Schema

MISSING: Final = lists.MISSING
_DIRECTIVE = "$patch"


def strategic(target: JSON, patch: JSON, schema: Lookup) -> JSON | None:
    """Merge a patch into an object.

    Args:
        target: the object; it is changed.
        patch: the patch; it must be a private value, since parts of it become parts of the result.
        schema: what is known of kinds.

    Returns:
        The object, or None when the patch deletes it. `$patch: replace` at the very top is
        read and then without effect in kustomize, and so it is here.

    Raises:
        KustomizeError: the patch does not fit, or has an unknown directive.
    """
    found = _Merge(schema, target).walk(target, patch, None)
    return target if isinstance(found, dict) else None


class _Merge:
    def __init__(self, lookup: Lookup, root: JSON) -> None:
        self._lookup = lookup
        self._root = root

    def walk(self, dest: Any, src: Any, schema: Schema | None, *, blank: bool = False) -> Any:
        """Merge one value into another; MISSING stands for none, and as a result for none left."""
        first = src if dest is None or dest is MISSING else dest
        if schema is None and isinstance(first, dict):
            schema = self._of(dest) or self._of(src)
        if first is None or first is MISSING or isinstance(first, dict):
            self._expect(dest, src, dict, "MappingNode")
            return self._map(dest, src, schema, blank=blank)
        if isinstance(first, list):
            self._expect(dest, src, list, "SequenceNode")
            if schema is None or schema.keys is None:
                return dest if src is MISSING else (MISSING if src is None else src)
            return self._list(dest, src, schema, schema.keys)
        self._expect(dest, src, None, "ScalarNode")
        return dest if src is MISSING else (MISSING if src is None else src)

    def _of(self, value: Any) -> Schema | None:
        if not isinstance(value, dict):
            return None
        kind, version = value.get("kind"), value.get("apiVersion")
        if not isinstance(kind, str) or not isinstance(version, str):
            return None
        return self._lookup.kind(version, kind) if kind and version else None

    def _expect(self, dest: Any, src: Any, expected: type | None, name: str) -> None:
        for value in (dest, src):
            if value is None or value is MISSING:
                continue
            fits = isinstance(value, expected) if expected else not isinstance(value, dict | list)
            if not fits:
                raise KustomizeError(
                    f"wrong node kind: expected {name} but got {lists.node_kind(value)}",
                    detail="the patch has another type there than the object",
                )

    def _map(self, dest: Any, src: Any, schema: Schema | None, *, blank: bool) -> Any:
        if dest is None or dest is MISSING:
            if not isinstance(src, dict):
                # An explicit null of the object outlives the merge, a field left blank does not.
                return None if src is MISSING and dest is None and not blank else MISSING
            if _directive(src, lenient=True) == "delete":
                return MISSING
            result = src
        elif src is None:
            return MISSING
        else:
            directive = _directive(src) if src is not MISSING else "merge"
            if directive == "delete":
                return MISSING
            result = src if directive == "replace" else dest
        self._fields(result, src if isinstance(src, dict) else None, schema)
        return result

    def _fields(self, result: JSON, src: JSON | None, schema: Schema | None) -> None:
        blanks = result.blank if isinstance(result, Blanks) else frozenset[str]()
        names = list(result) if src is None or src is result else list(dict.fromkeys([*result, *src]))
        for name in names:
            old = result.get(name, MISSING)
            new = MISSING if src is None else src.get(name, MISSING)
            if new is MISSING and not isinstance(old, dict | list) and old is not None:
                if old in OLD_WORDS and type(old) is str:
                    # kustomize sets it again to what it is, and in quotes this time.
                    result[name] = Quoted(old)
                elif isinstance(old, LooseInt | LooseFloat):
                    result[name] = Quoted(old.text)
                continue
            below = None if schema is None else schema.field(name)
            value = self.walk(old, new, below, blank=name in blanks)
            if value is MISSING:
                result.pop(name, None)
            elif isinstance(old, Shared) and not isinstance(value, dict | list):
                share(self._root, old, value)
            elif value is not old:
                if old is MISSING:
                    result[name] = written(value) if type(value) is str else value
                else:
                    result[name] = styled(old, value)

    def _list(self, dest: Any, src: Any, schema: Schema, keys: tuple[str, ...]) -> Any:
        if dest is None or dest is MISSING:
            result = src
        elif src is None:
            return MISSING
        else:
            directive = _list_directive(src) if src is not MISSING else "merge"
            if directive == "delete":
                return MISSING
            result = src if directive == "replace" else dest
        sources = [result, src]
        if not keys:
            plain = lists.merge_scalars(result, src)
            return self._slow(result, sources, schema, ("",)) if plain is None else plain
        found = lists.plan(result, src, keys)
        return (
            self._slow(result, sources, schema, keys) if found is None else self._fast(result, found, schema)
        )

    def _fast(self, result: list[Any], found: lists.Plan, schema: Schema) -> list[Any]:
        """Merge lists in which every item has its keys, once: the way of all but broken lists."""
        below = schema.items()
        added: list[Any] = []
        kept: dict[tuple[str, ...], Any] = {}
        merged: list[Any] = []
        for key, old, new in found.items:
            value = self.walk(old, new, below)
            if not value or value is MISSING:
                continue
            for name, text in zip(found.keys, key, strict=True):
                if name not in value:
                    value[name] = resolve_kyaml(text)
            # The object's own item stands, which is the merged one unless the patch replaces it.
            final = value if old is MISSING else old
            merged.append(final)
            if old is MISSING:
                added.append(final)
            else:
                kept[key] = final
        if len(found.keys) > 1:
            merged = [*added, *(kept[key] for key in found.own if key in kept)]
        result[:] = merged
        return result

    def _slow(self, result: list[Any], sources: list[Any], schema: Schema, keys: tuple[str, ...]) -> Any:
        below = schema.items()
        values = lists.key_values(sources, keys)
        lists.bound(len(values), len(result))
        added: list[Any] = []
        valid: list[str] = []
        for texts in values:
            valid, present = lists.validate(values, texts, keys)
            old, new = (lists.find(source, *lists.validate([present], present, valid)) for source in sources)
            value = self.walk(old, new, below)
            gone = value is MISSING or value is None or value == {}
            for name, text in zip(valid, present, strict=False):
                if gone:
                    lists.put(result, MISSING, valid, present)
                elif isinstance(value, dict) and name not in value and text:
                    value[name] = resolve_kyaml(text)
            if not gone:
                lists.put(added, value, valid, present)
        return lists.append(added, result, valid) if values else result


def _directive(patch: JSON, *, lenient: bool = False) -> str:
    """Take the directive out of a map of a patch; lenient leaves an unknown one where it is."""
    if _DIRECTIVE not in patch:
        return "merge"
    given = text_of(patch[_DIRECTIVE]) if not isinstance(patch[_DIRECTIVE], dict | list) else ""
    if given not in ("merge", "replace", "delete"):
        if lenient:
            return "merge"
        raise _unknown(given)
    del patch[_DIRECTIVE]
    return given


def _list_directive(patch: list[Any]) -> str:
    """Take the directive out of a list of a patch: an item with nothing but the directive."""
    found = next((item for item in patch if isinstance(item, dict) and _DIRECTIVE in item), None)
    if found is None or len(found) > 1:
        return "merge"
    value = found[_DIRECTIVE]
    given = text_of(value) if not isinstance(value, dict | list) else ""
    if given not in ("merge", "replace", "delete"):
        raise _unknown(given)
    lists.put(patch, MISSING, [_DIRECTIVE], [given])
    return given


def _unknown(given: str) -> KustomizeError:
    return KustomizeError(
        f"unknown patch strategy '{given}'", detail="expected $patch to be merge, replace or delete"
    )
