"""Which objects a target means: patterns for kind and name, selectors for labels and annotations.

Role in the flow: patches, replacements and built-in transformers choose objects here. Patterns
are Go's regular expressions; those that could make Python's engine backtrack without end run
on an automaton of our own (S10). Source: kustomize api/types/selector, kyaml labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gitwright.render.kustomize import regex
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.model import Resource, text_of

Match = Callable[[str], bool]
Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """A compiled target.

    Args:
        group, version, kind, name, namespace: patterns; None takes anything.
        labels, annotations: what the labels and annotations must fulfil.
    """

    group: Match | None
    version: Match | None
    kind: Match | None
    name: Match | None
    namespace: Match | None
    labels: tuple[Requirement, ...]
    annotations: tuple[Requirement, ...]

    def matches(self, resource: Resource) -> bool:
        """Tell whether an object is meant: by its present or its first name and namespace."""
        current = resource.id
        gvk = current.gvk
        if self.kind is not None and not self.kind(gvk.kind):
            return False
        if self.group is not None and not self.group(gvk.group):
            return False
        if self.version is not None and not self.version(gvk.version):
            return False
        if self.name is not None or self.namespace is not None:
            original = resource.original if resource.former else current
            if self.namespace is not None and not (
                self.namespace(original.namespace) or self.namespace(current.namespace)
            ):
                return False
            if self.name is not None and not (self.name(original.name) or self.name(current.name)):
                return False
        return self._fulfilled(self.labels, resource.labels) and self._fulfilled(
            self.annotations, resource.annotations
        )

    @staticmethod
    def _fulfilled(requirements: tuple[Requirement, ...], values: Mapping[str, Any]) -> bool:
        if not requirements:
            return True
        texts = {key: text_of(value) for key, value in values.items()}
        return all(requirement(texts) for requirement in requirements)


def compile(target: Mapping[str, str]) -> Selector:
    """Make a selector of a target.

    Args:
        target: group, version, kind, name, namespace, labelSelector, annotationSelector; all may
            be missing or empty.

    Raises:
        KustomizeError: a pattern or a selector cannot be read.
    """
    group, version, kind, name, namespace = (
        _pattern(target.get(field) or "", field)
        for field in ("group", "version", "kind", "name", "namespace")
    )
    return Selector(
        group,
        version,
        kind,
        name,
        namespace,
        labels=requirements(target.get("labelSelector") or "", "labelSelector"),
        annotations=requirements(target.get("annotationSelector") or "", "annotationSelector"),
    )


def _pattern(text: str, field: str) -> Match | None:
    if not text:
        return None
    try:
        return regex.compile(text)
    except ValueError as error:
        raise KustomizeError(
            f"error parsing regexp: {error}: `^(?:{text})$`",
            detail=f"field 'target.{field}': expected a regular expression as Go knows them",
        ) from None


_TOKEN = re.compile(r"\s*(?:(==|!=|[=!<>(),])|([^\s=!<>(),]+))")
_NAME = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)\Z")
_PREFIX = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")


def requirements(text: str, field: str) -> tuple[Requirement, ...]:
    """Read a label selector such as `app=web,tier in (a,b),!canary`.

    Raises:
        KustomizeError: it cannot be read.
    """
    return tuple(_Parser(text, field).all()) if text.strip() else ()


class _Parser:
    def __init__(self, text: str, field: str) -> None:
        self._text = text
        self._field = field
        self._tokens: list[tuple[str, bool]] = []
        position = 0
        stripped = text.rstrip()
        while position < len(stripped):
            found = _TOKEN.match(stripped, position)
            if found is None:
                raise self._wrong(f"unexpected '{stripped[position]}'")
            self._tokens.append((found[1] or found[2], found[2] is not None))
            position = found.end()
        self._at = 0

    def all(self) -> list[Requirement]:
        """Read every requirement."""
        found = [self._one()]
        while self._peek() != "":
            self._expect(",")
            found.append(self._one())
        return found

    def _one(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            key = self._key()
            return lambda labels: key not in labels
        key = self._key()
        operator = self._peek()
        if operator in ("", ","):
            return lambda labels: key in labels
        self._next()
        if operator in ("=", "=="):
            value = self._value()
            return lambda labels: labels.get(key) == value
        if operator == "!=":
            value = self._value()
            return lambda labels: labels.get(key) != value
        if operator in ("in", "notin"):
            values = self._set()
            if operator == "in":
                return lambda labels: key in labels and labels[key] in values
            return lambda labels: key not in labels or labels[key] not in values
        if operator in ("<", ">", "gt", "lt"):
            return self._compared(key, operator)
        raise self._wrong(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def _compared(self, key: str, operator: str) -> Requirement:
        text = self._value()
        if not re.match(r"[-+]?[0-9]+\Z", text):
            raise self._wrong("for 'Gt', 'Lt' operators, the value must be an integer")
        bound, above = int(text), operator in (">", "gt")

        def compare(labels: Labels) -> bool:
            given = labels.get(key, "")
            if not re.match(r"[-+]?[0-9]+\Z", given):
                return False
            return int(given) > bound if above else int(given) < bound

        return compare

    def _set(self) -> frozenset[str]:
        self._expect("(")
        values: set[str] = set()
        wanted = True
        while True:
            found, word = self._next()
            if found in (")", ","):
                if wanted:
                    values.add("")
                if found == ")":
                    break
                wanted = True
            elif word and wanted:
                self._check_value(found)
                values.add(found)
                wanted = False
            else:
                raise self._wrong(f"found '{found}', expected: ',' or ')'")
        return frozenset(values)

    def _key(self) -> str:
        token, word = self._next()
        prefix, slash, name = token.rpartition("/")
        fits = word and len(name) <= 63 and bool(_NAME.match(name)) and "/" not in prefix
        if slash:
            fits = fits and len(prefix) <= 253 and bool(_PREFIX.match(prefix))
        if not fits:
            raise self._wrong(f"found '{token}', expected: a label's name")
        return token

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        token, word = self._next()
        if not word:
            raise self._wrong(f"found '{token}', expected: a value")
        self._check_value(token)
        return token

    def _check_value(self, token: str) -> None:
        if len(token) > 63 or not _NAME.match(token):
            raise self._wrong(f"invalid label value: '{token}'")

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, bool]:
        if self._at >= len(self._tokens):
            raise self._wrong("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        found, _ = self._next()
        if found != token:
            raise self._wrong(f"found '{found}', expected: '{token}'")

    def _wrong(self, problem: str) -> KustomizeError:
        return KustomizeError(
            f"unable to parse requirement: {problem}", detail=f"field 'target.{self._field}': '{self._text}'"
        )
