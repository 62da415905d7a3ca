"""JSON patches (RFC 6902), as kustomize applies them.

Role in the flow: patches hands in an object and the operations of a text. Follows the library
that kustomize uses where it leaves the RFC: negative indices count from the end, replacing a
field that is not there adds it. Source: evanphx/json-patch v4; kustomize api/filters/patchjson6902.
"""

from __future__ import annotations

import re
from typing import Any

from gitwright.core.objects import JSON
from gitwright.formats.scalars import OLD_WORDS, WrittenFloat, WrittenInt, float_text, is_plain
from gitwright.formats.yaml import Quoted
from gitwright.render.kustomize.errors import KustomizeError

_INDEX = re.compile(r"[-+]?[0-9]+\Z")
_EXACT = 1 << 53
_LONG_NUMBER = 1_000_000
# What a plain YAML scalar cannot be, so that it is written in quotes and keeps them afterwards.
_QUOTED = re.compile(
    r"^[\s,\[\]{}#&*!|>'\"%@`]|^[-?:](?:\s|$)|:(?:\s|$)|\s#|\s$|[\n\x00-\x08\x0b-\x1f\x7f]|^(?:---|\.\.\.)"
)


def apply(obj: JSON, operations: list[Any]) -> JSON:
    """Apply operations to an object.

    Args:
        obj: the object; it is changed, and must not be used after an error.
        operations: of the patch, as read; not changed.

    Returns:
        The object as a JSON round trip of kustomize leaves it.

    Raises:
        KustomizeError: an operation is wrong or does not apply; the message is the library's.
    """
    document: Any = {"": obj}
    for number, operation in enumerate(operations):
        kind = operation.get("op") if isinstance(operation, dict) else None
        action = _ACTIONS.get(kind) if isinstance(kind, str) else None
        try:
            if action is None:
                raise KustomizeError(f"Unexpected kind: {kind or 'unknown'}", detail=_EXPECTED)
            action(document, operation)
        except KustomizeError as error:
            raise error.at("", f"operation {number + 1} of the patch") from None
    found = document[""]
    if not isinstance(found, dict):
        raise KustomizeError("json: cannot unmarshal array into Go value of type map[string]interface {}")
    return restyled(found)  # type: ignore[no-any-return]


def restyled(value: Any) -> Any:
    """Give a value as it comes out of JSON and back into YAML: quotes only where they are needed."""
    if isinstance(value, dict):
        return {str(key): restyled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restyled(item) for item in value]
    if isinstance(value, str):
        return (
            Quoted(value)
            if not is_plain(value) or value in OLD_WORDS or _QUOTED.search(value)
            else str(value)
        )
    if isinstance(value, bool) or value is None:
        return value
    return _number(value)


def _number(value: int | float) -> int | float:
    if abs(value) < _LONG_NUMBER and isinstance(value, int):
        return int(value)
    # Every number becomes a 64 bit float on the way.
    single = float(value)
    text = float_text(single)
    whole = int(single) if single.is_integer() and abs(single) < 1e21 else None
    if whole is None and repr(single) == text:
        return single
    written = WrittenInt(whole) if whole is not None else WrittenFloat(single)
    written.text = text
    return written


def _path(operation: JSON, field: str, name: str) -> str:
    path = operation.get(field)
    if not isinstance(path, str):
        raise KustomizeError(
            f"{name} operation failed to decode {field}: missing value", detail=f"expected a '{field}'"
        )
    return path


def _find(document: Any, path: str) -> tuple[Any, str]:
    """Give the map or list that a path's last part is in, and that part; None when it leads nowhere."""
    parts = path.split("/")
    if len(parts) < 2:
        return None, ""
    here = document[""]
    for part in parts[1:-1]:
        try:
            here = _get(here, _decoded(part))
        except KustomizeError:
            return None, ""
        if not isinstance(here, dict | list):
            return None, ""
    return here, _decoded(parts[-1])


def _decoded(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~") if "~" in part else part


def _index(values: list[Any], key: str, length: int, *, end: int) -> int:
    if not _INDEX.match(key):
        raise KustomizeError(
            f'strconv.Atoi: parsing "{key}": invalid syntax', detail="expected the number of an item"
        )
    index = int(key)
    if index >= end or index < -length:
        raise KustomizeError(
            f"Unable to access invalid index: {index}: invalid index referenced",
            detail=f"the list has {len(values)} items",
        )
    return index + length if index < 0 else index


def _get(container: Any, key: str) -> Any:
    if isinstance(container, dict):
        return container.get(key)
    return container[_index(container, key, len(container), end=len(container))]


def _put(container: Any, key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        length = len(container) + 1
        container.insert(_index(container, key, length, end=length), value)


def _take(container: Any, key: str) -> None:
    if isinstance(container, dict):
        if key not in container:
            raise KustomizeError(f"Unable to remove nonexistent key: {key}: missing value")
        del container[key]
    else:
        del container[_index(container, key, len(container), end=len(container))]


def _add(document: Any, operation: JSON) -> None:
    path = _path(operation, "path", "add")
    container, key = _find(document, path)
    if container is None:
        raise _nowhere("add operation does not apply: doc is missing path: ", f'"{path}"', document, path)
    with _Named(f"error in add for path: '{path}'"):
        _put(container, key, _copy(operation.get("value")))


def _remove(document: Any, operation: JSON) -> None:
    path = _path(operation, "path", "remove")
    container, key = _find(document, path)
    if container is None:
        raise _nowhere("remove operation does not apply: doc is missing path: ", f'"{path}"', document, path)
    with _Named(f"error in remove for path: '{path}'"):
        _take(container, key)


def _replace(document: Any, operation: JSON) -> None:
    path = _path(operation, "path", "replace")
    value = _copy(operation.get("value"))
    if not path:
        if not isinstance(value, dict | list):
            raise KustomizeError("replace operation value must be object or array")
        document[""] = value
        return
    container, key = _find(document, path)
    if container is None:
        raise _nowhere("replace operation does not apply: doc is missing path: ", path, document, path)
    if isinstance(container, dict):
        container[key] = value
        return
    try:
        index = _index(container, key, len(container), end=len(container))
    except KustomizeError as error:
        raise KustomizeError(
            f"replace operation does not apply: doc is missing key: {path}: missing value",
            detail=error.detail,
        ) from None
    container[index] = value


def _move(document: Any, operation: JSON) -> None:
    origin = _path(operation, "from", "move")
    container, key = _find(document, origin)
    if container is None:
        raise _nowhere("move operation does not apply: doc is missing from path: ", origin, document, origin)
    with _Named(f"error in move for path: '{key}'"):
        value = _get(container, key)
        _take(container, key)
    path = _path(operation, "path", "move")
    container, key = _find(document, path)
    if container is None:
        raise _nowhere(
            "move operation does not apply: doc is missing destination path: ", path, document, path
        )
    with _Named(f"error in move for path: '{path}'"):
        _put(container, key, value)


def _copied(document: Any, operation: JSON) -> None:
    origin = _path(operation, "from", "copy")
    container, key = _find(document, origin)
    if container is None:
        raise _nowhere("copy operation does not apply: doc is missing from path: ", origin, document, origin)
    with _Named(f"error in copy for from: '{origin}'"):
        value = _copy(_get(container, key))
    path = _path(operation, "path", "copy")
    container, key = _find(document, path)
    if container is None:
        raise _nowhere(
            "copy operation does not apply: doc is missing destination path: ", path, document, path
        )
    with _Named("error while adding value during copy"):
        _put(container, key, value)


def _test(document: Any, operation: JSON) -> None:
    path = _path(operation, "path", "test")
    expected = operation.get("value")
    if path:
        container, key = _find(document, path)
        if container is None:
            raise _nowhere("test operation does not apply: is missing path: ", path, document, path)
        with _Named(f"error in test for path: '{path}'"):
            found = _get(container, key)
    else:
        found = document[""]
    if not _equal(found, expected):
        raise KustomizeError(f"testing value {path} failed: test failed")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _nowhere(message: str, shown: str, document: Any, path: str) -> KustomizeError:
    """Say how far a path leads and what is there."""
    here, known = document[""], ""
    for part in path.split("/")[1:-1]:
        try:
            below = _get(here, _decoded(part)) if isinstance(here, dict | list) else None
        except KustomizeError:
            below = None
        if below is None:
            break
        here, known = below, f"{known}/{part}"
    if isinstance(here, dict):
        there = ", ".join(sorted(here)[:12])
    else:
        there = f"a list of {len(here)} items" if isinstance(here, list) else "a scalar"
    return KustomizeError(f"{message}{shown}: missing value", hint=f"at '{known or '/'}' there is: {there}")


class _Named:
    """Puts the library's words before an error's own."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, KustomizeError):
            raise KustomizeError(f"{self._words}: {error.message}", detail=error.detail) from None


_ACTIONS = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copied,
    "test": _test,
}
_EXPECTED = "expected op to be one of: add, remove, replace, move, copy, test"
