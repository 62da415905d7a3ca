"""Values inside text: a path that goes on in a string which holds YAML or JSON.

Role in the flow: `replacements` asks here first. YAML keeps everything but the value that
changes; JSON is written anew, as kustomize does. Source: kustomize api/filters/replacement.
"""

from __future__ import annotations

import io
import json
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gitwright.formats import scalars
from gitwright.render.kustomize import paths
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.generators import go_json
from gitwright.render.kustomize.model import copy_value, text_of
from gitwright.render.kustomize.paths import Cell, Create


def replace(obj: dict[str, Any], parts: list[str], value: Any, create: Create) -> bool:
    """Put a value at a path that leads into a text.

    Args:
        obj: the object.
        parts: the path.
        value: what is put there.
        create: what is made of the field when it is not there.

    Returns:
        False when the path leads into no text, or not to a field in it; nothing has changed then.
    """
    for length in range(1, len(parts)):
        try:
            cell = paths.lookup(obj, parts[:length])
        except KustomizeError:
            continue
        if cell is None or isinstance(cell.value, dict | list) or cell.value is None:
            continue
        try:
            text = _replaced(str(text_of(cell.value)), parts[length:], value, create)
        except KustomizeError:
            return False
        if text is None:
            return False
        cell.put(paths.retyped(cell.value, text))
        return True
    return False


def _replaced(text: str, parts: list[str], value: Any, create: Create) -> str | None:
    holder = [paths.parse_text(text)]
    before = copy_value(holder[0])
    cells = paths.match(Cell(holder, 0), parts, create)
    if not cells or not text.strip():
        return None
    is_json = text.strip()[0] in "{["
    for cell in cells:
        cell.put(_put(cell, value, is_json=is_json))
    if is_json:
        return _json(holder[0], text)
    edited = _edited(text, before, holder[0])
    return edited if edited is not None else _dumped(holder[0])


class _Tagged(str):
    """A text in the place of a value of another type: kustomize writes the type before it."""

    __slots__ = ()


def _put(cell: Cell, value: Any, *, is_json: bool) -> Any:
    old = cell.value
    if isinstance(old, dict | list):
        return copy_value(value)
    text = text_of(value)
    try:
        return paths.put_text(cell, text)
    except KustomizeError:
        if is_json:
            raise
        kind = "bool" if isinstance(old, bool) else "float" if isinstance(old, float) else "int"
        return _Tagged(f"!!{'null' if old is None else kind} {text}".strip())


def _json(value: Any, text: str) -> str:
    if "\n" in text and "  " in text:
        pretty = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
        for character in "<>&\u2028\u2029":
            pretty = pretty.replace(character, f"\\u{ord(character):04x}")
        return pretty
    return go_json(value)


def _edited(text: str, before: Any, after: Any) -> str | None:
    """Change the scalars that differ in the text itself; None when more than scalars differ."""
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return None
    edits: list[tuple[int, int, str]] = []
    if node is None or not _compare(node, before, after, edits):
        return None
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text.strip()


def _compare(node: Node, before: Any, after: Any, edits: list[tuple[int, int, str]]) -> bool:
    if before == after and type(before) is type(after):
        return True
    if isinstance(node, MappingNode) and isinstance(before, dict) and isinstance(after, dict):
        if before.keys() != after.keys():
            return False
        return all(
            _compare(item, before[key.value], after[key.value], edits)
            for key, item in node.value
            if key.value in before
        )
    if isinstance(node, SequenceNode) and isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            return False
        pairs = zip(node.value, before, after, strict=True)
        return all(_compare(item, old, new, edits) for item, old, new in pairs)
    if not isinstance(node, ScalarNode) or isinstance(after, dict | list) or node.style in ("|", ">"):
        return False
    edits.append((node.start_mark.index, node.end_mark.index, _written(after, node.style)))
    return True


def _written(value: Any, style: str | None) -> str:
    text = text_of(value)
    if isinstance(value, _Tagged):
        return str(value)
    if style == "'":
        return "'" + text.replace("'", "''") + "'"
    if style == '"' or (isinstance(value, str) and not scalars.is_plain(text)):
        return json.dumps(text, ensure_ascii=False)
    if not isinstance(value, str):
        return text
    stream = io.StringIO()
    yaml.dump(str(text), stream, Dumper=yaml.CSafeDumper, width=1 << 20, allow_unicode=True)
    return stream.getvalue().removesuffix("...\n").strip()


def _dumped(value: Any) -> str:
    # By way of JSON, which leaves plain strings and numbers.
    value = json.loads(json.dumps(value))
    text = yaml.dump(
        value,
        Dumper=yaml.CSafeDumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        width=1 << 20,
    )
    return str(text).strip()
