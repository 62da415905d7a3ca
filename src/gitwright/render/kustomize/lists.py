"""Lists that are merged by keys: finding, putting and ordering their items.

Role in the flow: merge's helper. `plan` serves lists in which every item has its keys, in time
proportional to their length; the rest follows kustomize step by step, strange results
included, and is bounded in size. Source: kustomize kyaml/yaml/walk/associative_sequence, kyaml/yaml/fns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from gitwright.formats.scalars import text_of
from gitwright.render.kustomize.errors import KustomizeError


class _Missing(Enum):
    """The type of MISSING."""

    MISSING = 0

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing.MISSING
_STEPS = 4_000_000
"""Comparisons that a list with broken items may cost; beyond it is no honest input."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How two lists come together.

    Args:
        keys: the keys that identify items.
        items: values of the keys, the object's item, the patch's item; MISSING for none.
        own: values of the keys of the object's items, in order.
    """

    keys: tuple[str, ...]
    items: list[tuple[tuple[str, ...], Any, Any]]
    own: list[tuple[str, ...]]


def node_kind(value: Any) -> Literal["MappingNode", "SequenceNode", "ScalarNode"]:
    """Name the kind of a value as kustomize's messages do."""
    if isinstance(value, dict):
        return "MappingNode"
    return "SequenceNode" if isinstance(value, list) else "ScalarNode"


def value_text(value: Any) -> str:
    """Give the text of a scalar; maps and lists have none."""
    return "" if isinstance(value, dict | list) else text_of(value)


def _key_text(item: Any, key: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    return "" if value is None or isinstance(value, dict | list) else text_of(value)


def plan(dest: list[Any], src: Any, keys: tuple[str, ...]) -> Plan | None:
    """Pair the items of two lists; None when an item lacks its key or has another's."""
    patch = src if isinstance(src, list) else []
    if len(keys) > 1:
        # Keys that no item has do not count; those that some have are the slow way's business.
        present = tuple(key for key in keys if any(_key_text(item, key) for item in (*dest, *patch)))
        keys = present or keys
    own = _by_key(dest, keys)
    brought = own if patch is dest else _by_key(patch, keys)
    if own is None or brought is None:
        return None
    items = [(key, own.get(key, MISSING), item) for key, item in brought.items()]
    items.extend((key, item, MISSING) for key, item in own.items() if key not in brought)
    return Plan(keys, items, list(own))


def _by_key(values: list[Any], keys: tuple[str, ...]) -> dict[tuple[str, ...], Any] | None:
    found: dict[tuple[str, ...], Any] = {}
    for item in values:
        key = tuple(_key_text(item, name) for name in keys)
        if not all(key) or key in found:
            return None
        found[key] = item
    return found


def merge_scalars(dest: list[Any], src: Any) -> list[Any] | None:
    """Merge lists of scalars, the patch's first; None when they hold anything else or one twice."""
    patch = src if isinstance(src, list) else []
    own = _by_text(dest)
    brought = own if patch is dest else _by_text(patch)
    if own is None or brought is None:
        return None
    dest[:] = [
        *(own.get(text, value) for text, value in brought.items()),
        *(own[t] for t in own if t not in brought),
    ]
    return dest


def _by_text(values: list[Any]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for value in values:
        if value is None or isinstance(value, dict | list):
            return None
        text = text_of(value)
        if not text or text in found:
            return None
        found[text] = value
    return found


def bound(values: int, length: int) -> None:
    """Refuse lists whose broken items would cost too much.

    Raises:
        KustomizeError: they would.
    """
    if values * (values + length) > _STEPS:
        raise KustomizeError(
            f"a list of {length} items cannot be merged: some lack the key they are merged by",
            detail="expected every item to have it, once",
        )


def key_values(sources: Sequence[Any], keys: tuple[str, ...]) -> list[list[str]]:
    """Give the values of the keys in all items, the patch's first, each once."""
    dest, src = sources
    found: dict[tuple[str, ...], None] = {}
    for source in (src, dest):
        for item in source if isinstance(source, list) else ():
            if keys == ("",):
                found.setdefault((value_text(item),))
            else:
                found.setdefault(tuple(_key_text(item, key) for key in keys))
    values = [list(texts) for texts in found]
    return _completed(values) if len(keys) > 1 else values


def _completed(values: list[list[str]]) -> list[list[str]]:
    """Fill in what is missing in values that are otherwise equal, such as ports without protocol."""
    if all(all(texts) for texts in values):
        return values
    bound(len(values), len(values))
    for i in range(len(values)):
        one = values[i]
        for j in range(len(values)):
            both = _together(one, values[j])
            if both is not None:
                values[i] = values[j] = both
    return values


def _together(one: list[str], other: list[str]) -> list[str] | None:
    common = False
    both = []
    for a, b in zip(one, other, strict=True):
        if a == b:
            common = True
        elif a and b:
            return None
        both.append(a or b)
    return both if common else None


def validate(values: list[list[str]], texts: list[str], keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Give the keys that any item has, and one item's values of them; all when no item has any."""
    present = {key for row in values for key, text in zip(keys, row, strict=False) if text}
    if not present:
        return list(keys), texts
    return (
        [key for key in keys if key in present],
        [text for key, text in zip(keys, texts, strict=False) if text or key in present],
    )


def find(source: Any, keys: Sequence[str], texts: Sequence[str]) -> Any:
    """Give the first item whose keys have these values, MISSING when there is none."""
    if not isinstance(source, list):
        return MISSING
    if not keys[0]:
        return next((item for item in source if value_text(item) == texts[0]), MISSING)
    for item in source:
        if isinstance(item, dict) and all(
            key in item and value_text(item[key]) == text for key, text in zip(keys, texts, strict=True)
        ):
            return item
    return MISSING


def put(target: list[Any], element: Any, keys: Sequence[str], texts: Sequence[str]) -> None:
    """Replace the items with these values by an element, or append it; MISSING takes them away.

    Raises:
        KustomizeError: an item is of another kind than the keys need.
    """
    kept: list[Any] = []
    found = False
    named = bool(keys[0]) and bool(texts) and bool(texts[0])
    for item in target:
        if item is None or item == {}:
            continue
        if named and not isinstance(item, dict):
            kept.append(item)
        elif _matches(item, keys, texts):
            found = True
            if element is not MISSING:
                kept.append(element)
        elif texts:
            kept.append(item)
    if element is not MISSING and element is not None and not found:
        kept.append(element)
    target[:] = kept


def _matches(item: Any, keys: Sequence[str], texts: Sequence[str]) -> bool:
    matched = False
    for index, key in enumerate(keys):
        if index < len(texts):
            matched = _matches_one(item, key, texts[index])
        if not matched:
            return False
    return True


def _matches_one(item: Any, key: str, text: str) -> bool:
    if not key:
        if isinstance(item, dict | list):
            raise _wrong("ScalarNode", item)
        return text_of(item) == text
    if not isinstance(item, dict):
        raise _wrong("MappingNode", item)
    return key in item and (not text or value_text(item[key]) == text)


def append(target: list[Any], source: list[Any], keys: Sequence[str]) -> list[Any]:
    """Put the object's items behind those of the merge, each in the place of its like.

    Raises:
        KustomizeError: an item is of another kind than the keys need.
    """
    for item in list(source):
        if not keys[0]:
            put(target, item, [""], [value_text(item)])
            continue
        texts = []
        for key in keys:
            if item is not None and not isinstance(item, dict):
                raise _wrong("MappingNode", item)
            if item is None or key not in item:
                target.append(item)
            else:
                texts.append(value_text(item[key]))
        if len(keys) > 1:
            put(target, MISSING, keys, texts)
        put(target, item, keys, texts)
    return target


def _wrong(expected: str, item: Any) -> KustomizeError:
    return KustomizeError(f"wrong node kind: expected {expected} but got {node_kind(item)}")
