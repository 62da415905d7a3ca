"""How YAML is read and written again."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import tree

_HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"


def _object(text: str, kustomization: str = "") -> dict[str, str]:
    return tree("resources: [o.yaml]\n" + kustomization, o=text)


def _values(*values: str) -> dict[str, str]:
    return _object(
        _HEAD + "data:\n" + "".join(f"  k{number}: {value}\n" for number, value in enumerate(values))
    )


CASES = {
    "words": _values(
        "yes", "no", "on", "off", "y", "n", "true", "True", "TRUE", "false", "null", "Null", "~", ""
    ),
    "integers": _values(
        "0", "-1", "+5", "0644", "0o644", "0x1F", "0b11", "1_000", "-0010", "9223372036854775808"
    ),
    "floats": _values(
        "1.0", "1.50", "1e3", "1E-7", ".5", "1.", "-0.0", "1e21", "123456789012345678901234567890"
    ),
    "nearly numbers": _values("08", "0o8", "1:30", "1.2.3", "1e400", "_1", "0x", "-", "+", ".", "1__0"),
    "dates": _values(
        "2020-01-01", "2020-1-1", "2020-01-01T10:00:00Z", "2020-01-01T10:00:00.5+02:00", "2020-13-01"
    ),
    "quoted": _values('"5"', "'5'", '"yes"', "'a''b'", '"a\\nb\\u00e9"', '""', "'null'", '"2020-01-01"'),
    "tags": _values("!!str 5", "!!int '5'", "!foo bar", "!!binary aGVsbG8=", "!!float 5", "!!bool 'true'"),
    "infinity": _values(".inf"),
    "not a number": _values(".nan"),
    "signs": _values("=", "<<", "a#b", "'a: b'", "'#a'", "%a", "a&b", "'@a'", "ü", "'😀'"),
    "blocks": _object(
        _HEAD
        + "data:\n  a: |\n    one\n    two\n  b: |-\n    one\n\n    two\n  c: |+\n    one\n\n  d: >\n    one\n    two\n\n    three\n"
        "  e: >-\n    folded\n     more\n  f: |2\n      indented\n"
    ),
    "a plain text over lines": _object(
        _HEAD + "data:\n  a: one\n    two\n    three\n  b: 'one\n    two'\n  c: \"one\\\n    two\"\n"
    ),
    "anchors": _object(_HEAD + "data: &d\n  a: &a x\n  b: *a\nother: *d\n"),
    "merge keys": _object(_HEAD + "base: &b {a: 1, b: 2}\none: {<<: *b, b: 3}\ntwo: {b: 3, <<: *b}\n"),
    "several merges": _object(_HEAD + "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\none: {<<: [*x, *y], c: 3}\n"),
    "an unknown anchor": _object(_HEAD + "data: *none\n"),
    "keys that are no texts": _object(_HEAD + "data: {1: a}\n"),
    "a word as key": _object(_HEAD + "data: {yes: a, no: b, on: c}\n"),
    "a truth as key": _object(_HEAD + "data: {true: a}\n"),
    "a key given twice": _object(_HEAD + "data: {a: 1, a: 2}\n"),
    "no value": _object(_HEAD + "data:\n"),
    "empty maps and lists": _object(_HEAD + "data: {}\nlist: []\nnested: {a: {}, b: [[], {}]}\n"),
    "nulls in lists": _object(_HEAD + "list: [null, ~, a]\n"),
    "JSON": _object(
        '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "5", "b": 5}}\n'
    ),
    "documents": _object(_HEAD + "---\n# nothing\n---\n" + _HEAD.replace("name: c", "name: d") + "---\n"),
    "a comment behind a separator": _object(_HEAD + "--- # note\n" + _HEAD.replace("name: c", "name: d")),
    "text behind a separator": _object(_HEAD + "--- {a: b}\n" + _HEAD.replace("name: c", "name: d")),
    "a document's end": _object(_HEAD + "...\n---\n" + _HEAD.replace("name: c", "name: d")),
    "Windows' line ends": _object((_HEAD + "data:\n  a: |\n    x\n    y\n").replace("\n", "\r\n")),
    "a byte order mark": _object("\ufeff" + _HEAD),
    "a tab": _object(_HEAD + "data:\n\ta: b\n"),
    "no YAML": _object("a: b: c\n"),
    "a scalar alone": _object("text\n"),
    "a list alone": _object("- a\n"),
    "no kind": _object("apiVersion: v1\nmetadata: {name: x}\n"),
    "no name": _object("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n"),
    "no apiVersion": _object("kind: ConfigMap\nmetadata: {name: x}\n"),
    "a name that is a number": _object("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 5}\n"),
    "a name that is a number, with a prefix": _object(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 0010}\n", "namePrefix: p\n"
    ),
    "nothing in the file": _object("# nothing\n"),
    "indentation of every kind": _object(
        _HEAD + "a:\n- b\n-   c: d\n    e:\n        - f\n        -\n          g: h\n- - i\n  - j\n"
    ),
    "comments everywhere": _object(
        "# a\n" + _HEAD + "data: # b\n  # c\n  a: b # d\n  b: 'x' # e\n  c: a#b\n"
    ),
    "keys in quotes": _object(_HEAD + 'data:\n  "a b": 1\n  \'c: d\': 2\n  "5": 3\n  ? e\n  : 4\n'),
    "flow over lines": _object(_HEAD + 'data: {a: b,\n  c: [d,\n    e], f: "g\n  h"}\n'),
    "a long text": _object(_HEAD + "data:\n  a: " + "word " * 60 + "\n"),
}
