"""Reading YAML as Go does, and writing it as Go does.

Role in the flow: the one YAML reader (sigs.k8s.io/yaml's rules, with limits) and the one
writer. It knows nothing of Kubernetes objects and opens no file.
Source: spec/dependencies.md 6; spec/security.md S10, S11; checked against sigs.k8s.io/yaml 1.6.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml._yaml import CEmitter, CParser

from gitwright.core.errors import Stalled
from gitwright.core.objects import JSON
from gitwright.formats import scalars


class YamlError(Stalled):
    """Text that is not YAML, or more of it than the limits allow.

    Args:
        problem: what is wrong, as libyaml says it.
        file: name of the file, or empty.
        line: line in the file, from 1; 0 when unknown.
        document: which document of the file, from 1.
    """

    reason = "BuildFailed"

    def __init__(self, problem: str, *, file: str = "", line: int = 0, document: int = 1) -> None:
        where = f"line {line}: " if line else ""
        place = ":".join(part for part in (file, str(line) if line else "") if part)
        super().__init__(f"yaml: {where}{problem}", place=place, detail=f"in document {document}")
        self.problem = problem
        self.file = file
        self.line = line
        self.document = document


class YamlLimit(YamlError):
    """More YAML than the limits allow: too large, too deep, or too much by aliases."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much YAML is accepted (S10, S11).

    Args:
        size: bytes of the text.
        depth: how deeply maps and lists nest.
        aliased: nodes that aliases may add to those written, in the whole text.
    """

    size: int = 50 * 1024 * 1024
    depth: int = 200
    aliased: int = 100_000


LIMITS = Limits()


class Quoted(str):
    """A string that was written in quotes or as a block; kustomize keeps that when it sets a value."""

    __slots__ = ()


class Blanks(dict[str, Any]):
    """A map in which some nulls were written otherwise than `null`: as nothing at all, or as `~`.

    A strategic merge patch of kustomize takes away what was written as nothing, and keeps the nulls.

    Args:
        values: the map.
        words: field -> what was written there.
    """

    __slots__ = ("words",)

    def __init__(self, values: dict[str, Any], words: dict[str, str]) -> None:
        super().__init__(values)
        self.words = words

    @property
    def blank(self) -> frozenset[str]:
        """The fields where nothing was written."""
        return frozenset(name for name, word in self.words.items() if not word)

    def like(self, values: dict[str, Any]) -> Blanks:
        """Give another map that remembers the same."""
        return Blanks(values, dict(self.words))


class Shared(str):
    """A string that stands in several places of one object, which kustomize changes all at once."""

    __slots__ = ()


class SharedQuoted(Shared, Quoted):
    """A shared string that is written in quotes."""

    __slots__ = ()


def written(text: str) -> str:
    """Give a text as kustomize sets it where nothing was: in quotes if it would be read as something else."""
    return text if scalars.resolve(text) is text else Quoted(text)


def shared(text: str) -> Shared:
    """Give a text that kustomize sets in several places at once."""
    return Shared(text) if scalars.resolve(text) is text else SharedQuoted(text)


def share(value: Any, old: Shared, new: Any) -> None:
    """Set a scalar wherever in an object this very shared string stands."""
    if isinstance(old, Quoted):
        new = SharedQuoted(scalars.text_of(new))
    elif isinstance(new, str):
        new = Shared(new)
    _put_shared(value, old, new)


def _put_shared(value: Any, old: Shared, new: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if item is old:
                value[key] = new
            elif isinstance(item, dict | list):
                _put_shared(item, old, new)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                _put_shared(item, old, new)


def styled(old: Any, new: Any) -> Any:
    """Give what becomes of a scalar that kustomize sets where another value was: it keeps the quotes."""
    if isinstance(new, dict | list) or new is None:
        return new
    if isinstance(old, Quoted):
        return new if isinstance(new, Quoted) else Quoted(scalars.text_of(new))
    return str(new) if isinstance(new, Quoted) and old is not None else new


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value as JSON has it, its number in the file and its first line, both from 1."""

    value: Any
    number: int
    line: int


def load_documents(text: str | bytes, name: str = "", limits: Limits = LIMITS) -> list[JSON]:
    """Read the objects of a YAML or JSON text; empty documents are left out.

    Args:
        text: UTF-8 (or UTF-16 with a mark), any number of documents.
        name: the file, for errors.
        limits: how much is accepted.

    Raises:
        YamlError: the text is no YAML, exceeds a limit, or a document is no mapping.
    """
    found: list[JSON] = []
    for document in parse(text, name, limits):
        if document.value is None:
            continue
        if not isinstance(document.value, dict):
            kind = "a list" if isinstance(document.value, list) else "a scalar"
            problem = f"expected a mapping, found {kind}"
            raise YamlError(problem, file=name, line=document.line, document=document.number)
        found.append(document.value)
    return found


def parse(
    text: str | bytes,
    name: str = "",
    limits: Limits = LIMITS,
    *,
    unique: bool = False,
    kyaml: bool = False,
) -> list[Document]:
    """Read every document of a text, whatever it holds.

    Args:
        text: as for `load_documents`.
        name: the file, for errors.
        limits: how much is accepted.
        unique: refuse a key given twice in a map; otherwise the last one counts, as in Go.
        kyaml: read as kustomize reads objects: yaml.v3's scalars, keys that are strings and stand
            once, own keys before merged ones; with `Quoted`, `Blanks` and `scalars.WrittenInt`.

    Raises:
        YamlError: the text is no YAML or exceeds a limit.
    """
    return list(_Reader(text, name, limits, unique=unique or kyaml, kyaml=kyaml).documents())


def check(text: str | bytes, name: str = "", limits: Limits = LIMITS) -> None:
    """Refuse text that is no YAML or exceeds a limit, at a third less cost than reading it.

    Raises:
        YamlError: as `parse`; scalars and duplicate keys are not looked at.
    """
    reader = _Reader(text, name, limits, unique=False)
    for event in reader.events():
        reader.measure(event)


@dataclass(slots=True)
class _Frame:
    """A map or list that is being read."""

    into: dict[str, Any] | list[Any]
    anchor: str | None
    nodes: int = 1
    key: str | None = None
    keyed: bool = False
    merging: bool = False
    own: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    nodes: int
    plain: bool = False


class _Reader:
    """Builds values from libyaml's events, with a stack of its own: no input can exhaust Python's."""

    def __init__(
        self, text: str | bytes, name: str, limits: Limits, *, unique: bool, kyaml: bool = False
    ) -> None:
        self._name = name
        self._kyaml = kyaml
        self._limits = limits
        self._unique = unique
        self._document = 0
        self._line = 1
        self._aliased = 0
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored] = {}
        # For `measure` alone: open anchors with their node counts, and the counts of closed ones.
        self._open: list[list[Any]] = []
        self._counts: dict[str, int] = {}
        if len(text) > limits.size:
            raise self._limit(f"the text has {len(text)} bytes, more than the limit of {limits.size}")
        self._parser = CParser(text)

    def events(self) -> Iterator[Any]:
        """Give libyaml's events, errors in our words."""
        while True:
            try:
                event = self._parser.get_event()
            except yaml.MarkedYAMLError as error:
                mark = error.problem_mark or error.context_mark
                raise self._error(str(error.problem or error), mark.line + 1 if mark else 0) from None
            except yaml.YAMLError as error:
                # A ReaderError: it knows the position only by bytes.
                raise self._error(str(getattr(error, "reason", error)), self._line) from None
            except UnicodeError:
                raise self._error("invalid UTF-8", self._line) from None
            if event is None or isinstance(event, yaml.StreamEndEvent):
                return
            self._line = event.start_mark.line + 1 if event.start_mark else self._line
            if isinstance(event, yaml.DocumentStartEvent):
                self._document += 1
            yield event

    def documents(self) -> Iterator[Document]:
        """Give the documents in order."""
        root: list[Any] = []
        line = 1
        for event in self.events():
            if isinstance(event, yaml.DocumentStartEvent):
                line = event.end_mark.line + 1 if event.end_mark else self._line
                self._anchors.clear()
                root = []
                self._stack = [_Frame(root, None)]
            elif isinstance(event, yaml.DocumentEndEvent):
                yield Document(root[0] if root else None, max(self._document, 1), line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._push(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._pop()
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)

    def _push(self, event: Any) -> None:
        if len(self._stack) > self._limits.depth:
            raise self._limit(f"nested more than {self._limits.depth} levels deep")
        top = self._stack[-1]
        if isinstance(top.into, dict) and not top.keyed:
            raise self._error("invalid map key: a key must be a scalar")
        into: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(into, event.anchor))

    def _pop(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            # The value is copied at each alias, so what is kept here is never handed out twice.
            self._anchors[frame.anchor] = _Anchored(frame.into, frame.nodes)
        self._add(frame.into, frame.nodes)

    def _scalar(self, event: Any) -> None:
        top = self._stack[-1]
        wants_key = isinstance(top.into, dict) and not top.keyed
        plain = bool(event.implicit[0]) and event.tag is None
        if wants_key and event.value == "<<" and (plain or event.tag == "tag:yaml.org,2002:merge"):
            top.keyed, top.merging = True, True
            return
        value = self._value(event, plain=plain)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, 1)
        if (
            value is None
            and self._kyaml
            and event.value != "null"
            and isinstance(top.into, dict)
            and top.keyed
        ):
            if not isinstance(top.into, Blanks):
                top.into = Blanks(top.into, {})
            top.into.words[top.key or ""] = event.value
        self._add(value, 1)

    def _alias(self, event: Any) -> None:
        found = self._anchors.get(event.anchor or "")
        if found is None:
            open_now = any(frame.anchor == event.anchor for frame in self._stack)
            raise self._error(
                f"anchor '{event.anchor}' value contains itself"
                if open_now
                else f"unknown anchor '{event.anchor}' referenced"
            )
        self._spend(found.nodes)
        self._add(_copy(found.value), found.nodes)

    def _spend(self, nodes: int) -> None:
        self._aliased += nodes
        if self._aliased > self._limits.aliased:
            raise self._limit(f"document contains excessive aliasing: more than {self._limits.aliased} nodes")

    def _add(self, value: Any, nodes: int) -> None:
        top = self._stack[-1]
        top.nodes += nodes
        if isinstance(top.into, list):
            top.into.append(value)
        elif not top.keyed:
            top.key, top.keyed = self._key(value), True
            if self._unique and top.key in top.own:
                raise self._error(f"key {top.key!r} already set in map")
            top.own.add(top.key)
        elif top.merging:
            top.keyed, top.merging = False, False
            self._merge(top.into, value)
        else:
            top.into[top.key or ""] = value
            top.keyed = False

    def _merge(self, into: dict[str, Any], value: Any) -> None:
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise self._error("map merge requires map or sequence of maps as the value")
        if not self._kyaml:
            for part in reversed(parts):
                into.update(part)
            return
        frame = self._stack[-1]
        if "<<" in frame.own:
            raise self._error("duplicate merge key")
        for part in parts:
            for key, item in part.items():
                into.setdefault(key, item)
        # What is merged may be given again by the map itself, but not merged twice.
        frame.own.add("<<")

    def _key(self, value: Any) -> str:
        if isinstance(value, str):
            return str(value)
        if self._kyaml:
            raise self._error(
                "json: unsupported type: map[interface {}]interface {}: a key must be a string: quote it"
            )
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return scalars.float32_text(value) if isinstance(value, float) else str(value)
        if value is None:
            raise self._error("unsupported map key: null")
        raise self._error("invalid map key: a key must be a scalar")

    def _value(self, event: Any, *, plain: bool) -> Any:
        text = str(event.value)
        if event.tag is None:
            if self._kyaml:
                if plain:
                    return self._finite(scalars.resolve_kyaml(text))
                return Quoted(_refolded(text) if event.style == ">" else text)
            return self._json(scalars.resolve(text)) if plain else text
        kind = str(event.tag).removeprefix("tag:yaml.org,2002:")
        if kind == "binary":
            try:
                return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
            except (ValueError, binascii.Error):
                raise self._error("!!binary value contains invalid base64 data") from None
        expected = _TAGGED.get(kind)
        if expected is None:
            return text
        value = scalars.resolve(text)
        if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not expected:
            raise self._error(f"cannot decode `{text}` as a !!{kind}")
        return self._json(value)

    def _json(self, value: scalars.Scalar) -> scalars.Scalar:
        value = self._finite(value)
        return scalars.number(value) if isinstance(value, float) else value

    def _finite(self, value: scalars.Scalar) -> scalars.Scalar:
        if isinstance(value, float) and value - value != 0:
            raise self._error(f"unsupported value: {scalars.float_text(value)}")
        return value

    def measure(self, event: Any) -> None:
        """Count nodes and depth of an event without building anything."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._counts.clear()
            self._open = [[None, 0]]
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(self._open) > self._limits.depth:
                raise self._limit(f"nested more than {self._limits.depth} levels deep")
            self._open.append([event.anchor, 1])
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            anchor, nodes = self._open.pop()
            if anchor is not None:
                self._counts[anchor] = nodes
            self._open[-1][1] += nodes
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                self._counts[event.anchor] = 1
            self._open[-1][1] += 1
        elif isinstance(event, yaml.AliasEvent):
            nodes = self._counts.get(event.anchor or "", 0)
            if not nodes:
                raise self._error(f"unknown anchor '{event.anchor}' referenced")
            self._spend(nodes)
            self._open[-1][1] += nodes

    def _error(self, problem: str, line: int | None = None) -> YamlError:
        where = self._line if line is None else line
        return YamlError(problem, file=self._name, line=where, document=max(self._document, 1))

    def _limit(self, problem: str) -> YamlLimit:
        return YamlLimit(problem, file=self._name, line=self._line, document=max(self._document, 1))


_TAGGED: dict[str, type] = {"int": int, "float": float, "bool": bool, "null": type(None)}


# A line, the breaks behind it and the beginning of one that is indented more.
_FOLD = re.compile(r"(?m)^([^ \t\n][^\n]*)(\n+)(?=[ \t])")


def _refolded(text: str) -> str:
    """Give a folded text as yaml.v3 leaves it: with one break more before a line that is indented."""
    return text if text.lstrip("\n")[:1] in ("", " ", "\t") else _FOLD.sub(r"\1\2\n", text)


def _copy(value: Any) -> Any:
    # Depth is bounded by the limit, so recursion is safe here.
    if isinstance(value, dict):
        copied = {key: _copy(item) for key, item in value.items()}
        return value.like(copied) if isinstance(value, Blanks) else copied
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def dump(obj: Any) -> str:
    """Write a value as sigs.k8s.io/yaml does.

    Keys in go-yaml's order (numbers in them count as numbers), lists not indented below their
    key, strings that would be read as something else in double quotes, strings of several
    lines as literal blocks, long ones folded at 80 columns.

    Args:
        obj: maps with string keys, lists, strings, numbers, booleans and None.

    Raises:
        TypeError: the value holds something else.
    """
    stream = io.StringIO()
    emitter = CEmitter(stream, width=80, allow_unicode=True)
    emitter.emit(yaml.StreamStartEvent())
    emitter.emit(yaml.DocumentStartEvent(explicit=False))
    for event in _written(obj):
        emitter.emit(event)
    emitter.emit(yaml.DocumentEndEvent(explicit=False))
    emitter.emit(yaml.StreamEndEvent())
    return stream.getvalue().removesuffix("...\n")


def _written(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield yaml.MappingStartEvent(None, None, implicit=True, flow_style=False)
        for key in sorted(value, key=functools.cmp_to_key(_compare)):
            yield from _written(key)
            yield from _written(value[key])
        yield yaml.MappingEndEvent()
    elif isinstance(value, list | tuple):
        yield yaml.SequenceStartEvent(None, None, implicit=True, flow_style=False)
        for item in value:
            yield from _written(item)
        yield yaml.SequenceEndEvent()
    else:
        text, style = _scalar_text(value)
        yield yaml.ScalarEvent(None, None, (True, True), text, style=style)


def _scalar_text(value: Any) -> tuple[str, str]:
    if isinstance(value, str):
        if "\n" in value:
            return value, "|"
        return value, "" if scalars.is_plain(value) else '"'
    if isinstance(value, bool):
        return ("true" if value else "false"), ""
    if value is None:
        return "null", ""
    if isinstance(value, int):
        return str(value), ""
    if isinstance(value, float):
        return scalars.float_text(value), ""
    raise TypeError(f"{type(value).__name__} cannot be written as YAML")


def _compare(left: str, right: str) -> int:
    """Order keys as go-yaml v2 does: letters after other characters, runs of digits by value."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a == b:
            continue
        if a.isalpha() and b.isalpha():
            return -1 if a < b else 1
        if a.isalpha() or b.isalpha():
            return -1 if b.isalpha() else 1
        one, two = _number_at(left, right, index)
        if one != two:
            return -1 if one < two else 1
        return -1 if a < b else 1
    return len(left) - len(right)


def _number_at(left: str, right: str, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
    start = 0
    if "0" in (left[index], right[index]):
        before = index - 1
        while before >= 0 and left[before].isdigit():
            if left[before] != "0":
                start = 1
                break
            before -= 1
    return _digits(left, index, start), _digits(right, index, start)


def _digits(text: str, index: int, number: int) -> tuple[int, int]:
    end = index
    while end < len(text) and "0" <= text[end] <= "9":
        number = number * 10 + ord(text[end]) - 48
        end += 1
    return number, end
