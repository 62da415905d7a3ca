"""The YAML reader and writer do what Go's do; expected values were taken from sigs.k8s.io/yaml 1.6."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.formats import yaml
from gitwright.formats.scalars import float32_text, float_text


def value_of(text: str) -> Any:
    documents = yaml.parse(text)
    return documents[0].value if documents else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y", True),
        ("Y", True),
        ("yEs", "yEs"),
        ("off", False),
        ("N", False),
        ("~", None),
        ("null", None),
        ("0644", 420),
        ("0o644", 420),
        ("0O17", 15),
        ("0x1F", 31),
        ("+0x1f", 31),
        ("0X1F", 31),
        ("0b11", 3),
        ("-0B11", -3),
        ("0b", "0b"),
        ("0x", "0x"),
        ("0x_f", 15),
        ("0_8", 8),
        ("08", 8),
        ("1_000", 1000),
        ("1__0", 10),
        ("_1", "_1"),
        ("1_", 1),
        ("-1_0", -10),
        ("1e3", 1000),
        ("12e03", 12000),
        ("1.e3", 1000),
        ("1e3_0", 1e30),
        ("1E20", 10**20),
        ("1e400", "1e400"),
        (".5", 0.5),
        ("+.5", 0.5),
        ("._5", "._5"),
        (".", "."),
        ("1.0", 1),
        ("100.50", 100.5),
        ("1:30", "1:30"),
        ("1:30:00", "1:30:00"),
        ("2020-01-01", "2020-01-01"),
        ("2001-12-14 21:59:43.10 -5", "2001-12-14 21:59:43.10 -5"),
        ("=", "="),
        ("<<", "<<"),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("0xfffffffffffffffff", "0xfffffffffffffffff"),
        ("'1'", "1"),
        ('"yes"', "yes"),
        ("!foo 5", "5"),
        ("! 5", "5"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("!!float 0x10", 16),
        ("!!bool 'yes'", True),
        ("!!null ''", None),
        ("!!binary aGVsbG8=", "hello"),
        ("!!timestamp 2020-01-01", "2020-01-01"),
    ],
)
def test_scalars_mean_what_they_mean_to_go(text: str, expected: Any) -> None:
    """A scalar has the value and the type that sigs.k8s.io/yaml gives it."""
    found = value_of(f"a: {text}\n")["a"]
    assert json.dumps(found) == json.dumps(expected) or (found == expected and isinstance(expected, int))
    assert isinstance(found, bool) == isinstance(expected, bool)
    assert isinstance(found, str) == isinstance(expected, str)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", {"a": 2}),
        (
            "true: c\n0x10: z\n1.5: a\n123456789.5: q\n",
            {"true": "c", "16": "z", "1.5": "a", "1.2345679e+08": "q"},
        ),
        ("{x, y}\n", {"x": None, "true": None}),
        ("a: &x {k: v}\nb: *x\n", {"a": {"k": "v"}, "b": {"k": "v"}}),
        ("a: &a b\n*a : c\n", {"a": "b", "b": "c"}),
        ("a: 1\n<<: {a: 2, b: 3}\n", {"a": 2, "b": 3}),
        ("<<: {a: 2, b: 3}\na: 1\n", {"a": 1, "b": 3}),
        ("<<: [{a: 2}, {a: 3, c: 4}]\n", {"a": 2, "c": 4}),
        ("'<<': {a: 1}\n", {"<<": {"a": 1}}),
        ("a:\n- b\n-  - c\n", {"a": ["b", ["c"]]}),
        ("\ufeffa: b\n", {"a": "b"}),
        ('{"a": [1, true, null, "x"], "b": {}}', {"a": [1, True, None, "x"], "b": {}}),
        ("", None),
        ("# nothing\n", None),
    ],
)
def test_structures_mean_what_they_mean_to_go(text: str, expected: Any) -> None:
    """Keys become strings as Go writes them, the last one counts, merges and aliases are resolved."""
    assert value_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "null: 1\n",
        "? [a]\n: 1\n",
        "a: *x\n",
        "a: &x [*x]\n",
        "<<: 1\n",
        "a: .inf\n",
        "a: .nan\n",
        "!!int abc\n",
        "!!int 1.0\n",
        "!!binary '*'\n",
        "a: b: c\n",
        "a: 'x\n",
        "a: @x\n",
        "a: \x01\n",
        "{a: b\n",
        "a: |\n  x\n y\n",
    ],
)
def test_what_go_refuses_is_refused(text: str) -> None:
    """A text that Go's reader refuses raises YamlError and nothing else."""
    with pytest.raises(yaml.YamlError):
        yaml.parse(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    """Invalid UTF-8 is an error of the text, not of the program."""
    with pytest.raises(yaml.YamlError):
        yaml.parse(b"a: \xff\xfe\xfd\n")


def test_an_error_names_file_line_and_document() -> None:
    """An error tells file, line and document, in its fields and in its text."""
    with pytest.raises(yaml.YamlError) as caught:
        yaml.load_documents("a: 1\n---\nb: 2\n---\nc: [1\nd: 2\n", "apps/web.yaml")
    error = caught.value
    assert (error.file, error.line, error.document) == ("apps/web.yaml", 6, 3)
    assert str(error) == "yaml: line 6: did not find expected ',' or ']'\napps/web.yaml:6: in document 3"


def test_documents_are_objects() -> None:
    """Empty documents vanish, others are given in order, and one that is no mapping is an error."""
    assert yaml.load_documents("---\n---\na: 1\n...\n---\n# x\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
    with pytest.raises(yaml.YamlError, match="expected a mapping, found a list"):
        yaml.load_documents("a: 1\n---\n- b\n")


def test_a_key_given_twice_can_be_refused() -> None:
    """With `unique`, a second key of one name in one map is an error; in another map it is not."""
    assert yaml.parse("a: {k: 1}\nb: {k: 2}\n", unique=True)[0].value == {"a": {"k": 1}, "b": {"k": 2}}
    with pytest.raises(yaml.YamlError, match="'a' already set"):
        yaml.parse("a: 1\nb: 2\na: 3\n", unique=True)


def test_aliases_are_copies() -> None:
    """Changing what an alias gave does not change its anchor."""
    found = value_of("a: &x {k: [1]}\nb: *x\n")
    found["b"]["k"].append(2)
    assert found["a"] == {"k": [1]}


def bomb(levels: int) -> str:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("read", [yaml.parse, yaml.check])
def test_an_alias_bomb_is_refused_at_once(read: Any) -> None:
    """Ten lines that would become ten thousand million nodes are refused in less than a second."""
    started = time.perf_counter()
    with pytest.raises(yaml.YamlLimit, match="excessive aliasing"):
        read(bomb(10))
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("read", [yaml.parse, yaml.check])
def test_limits_hold_exactly(read: Any) -> None:
    """Text at each limit is read, one more of anything is not."""
    limits = yaml.Limits(size=40, depth=3, aliased=4)
    read("[[[1]]]", "", limits)
    with pytest.raises(yaml.YamlLimit, match="3 levels"):
        read("[[[[1]]]]", "", limits)
    read("[&a [x, y, z], *a]", "", limits)
    with pytest.raises(yaml.YamlLimit, match="4 nodes"):
        read("[&a [x, y, z], *a, *a]", "", limits)
    read("a" * 40, "", limits)
    with pytest.raises(yaml.YamlLimit, match="40"):
        read("a" * 41, "", limits)


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "a: " + "{a: " * 50_000, "? " * 50_000])
def test_deep_text_neither_hangs_nor_exhausts_the_stack(text: str) -> None:
    """Nesting without end is an error in less than two seconds."""
    started = time.perf_counter()
    with pytest.raises(yaml.YamlError):
        yaml.parse(text)
    assert time.perf_counter() - started < 2


GO_TEXT = """\
"1": 2
a: 'x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
  x x x x '
a b: 1
b:
  data: ${x:=word word word word word word word word word word word word word word
    word word word }
c:
- |-
  l1
  l2
- 't '
- |2+
   lead
  x

- '#c'
- 'a: b'
- "y"
- "1:30"
- "0644"
- "2020-01-01"
- ""
- "~"
- '-'
- '{a'
- "tab\\there"
- é
- |
  a
- "  \\n a"
- "null"
- ${size}
- '''q'''
- '@x'
- 'a #b'
- '[a]'
- '?'
- ?a
- "1_000"
- <<
- =
- "\\U0001F389"
- a,b
- '---'
e: 1.5
f: 100000000000
g: []
h: {}
i:
- - 1
  - - 2
- a:
  - b: 1
    c: []
j: null
"true": 1
"y": true
z: 1.5000005e+06
"""
GO_VALUE: dict[str, Any] = {
    "1": 2,
    "a": "x " * 43,
    "a b": 1,
    "b": {"data": "${x:=" + "word " * 17 + "}"},
    "c": [
        *(
            "l1\nl2",
            "t ",
            " lead\nx\n\n",
            "#c",
            "a: b",
            "y",
            "1:30",
            "0644",
            "2020-01-01",
            "",
            "~",
            "-",
            "{a",
        ),
        *("tab\there", "é", "a\n", "  \n a", "null", "${size}", "'q'", "@x", "a #b", "[a]", "?", "?a"),
        *("1_000", "<<", "=", "🎉", "a,b", "---"),
    ],
    "e": 1.5,
    "f": 100000000000,
    "g": [],
    "h": {},
    "i": [[1, [2]], {"a": [{"b": 1, "c": []}]}],
    "j": None,
    "true": 1,
    "y": True,
    "z": 1500000.5,
}


def test_dump_writes_what_go_writes() -> None:
    """The writer gives, byte for byte, what sigs.k8s.io/yaml gives for the same value."""
    assert yaml.dump(GO_VALUE) == GO_TEXT


def test_keys_stand_in_gos_order() -> None:
    """Numbers within keys count by their value, and letters follow other characters."""
    keys = ["x10", "x2", "a-b", "aB", "a.b", "ab", "A", "_", "a"]
    assert list(value_of(yaml.dump(dict.fromkeys(keys, 1)))) == [
        "_",
        "A",
        "a",
        "a-b",
        "a.b",
        "aB",
        "ab",
        "x2",
        "x10",
    ]


def test_what_is_not_json_is_not_written() -> None:
    """A value that JSON does not know raises TypeError."""
    with pytest.raises(TypeError):
        yaml.dump({"a": object()})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e21, "1e+21"),
        (1.5, "1.5"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (100000.5, "100000.5"),
        (-0.0, "-0"),
    ],
)
def test_floats_are_written_as_go_does(value: float, text: str) -> None:
    """A float's text is that of Go's FormatFloat with the shortest digits."""
    assert float_text(value) == text


def test_floats_of_32_bits() -> None:
    """Where Go wants a string, a float has the shortest digits of 32 bits."""
    assert float32_text(1.1) == "1.1"
    assert float32_text(1.23456789) == "1.2345679"


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).map(
        lambda value: int(value) if value == int(value) else value
    )
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"), include_characters="\n\t"))
    | st.sampled_from(
        ["yes", "1e3", "0x1f", "1:30", " a", "a: b", "- x", "#", "|", "&a", "*a", "---", "null\n"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab1_.: #\n-", max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    """Reading a dump gives the value that was written."""
    found = value_of(yaml.dump({"v": value}))["v"]
    assert json.dumps(found, sort_keys=True) == json.dumps(_like_go(value), sort_keys=True)


def _like_go(value: Any) -> Any:
    """Integers beyond Go's range are floats; their JSON is compared by value."""
    if isinstance(value, dict):
        return {key: _like_go(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_like_go(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return int(float(value)) if abs(value) < 10**21 else float(value)
    return value
