"""`formats.cel`: Flux's environment, Flux's messages, and limits."""

from __future__ import annotations

from typing import Any

import pytest

from gitwright.core.errors import Stalled
from gitwright.formats import cel

_READY = "status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')"


def _conditions(status: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Ready", "status": status}]}}


@pytest.mark.parametrize(
    ("expression", "variables", "wanted"),
    [
        ("status.phase == 'Ready'", {"status": {"phase": "Ready"}}, True),
        (_READY, _conditions("True"), True),
        (_READY, _conditions("False"), False),
        ("has(status.phase)", {"status": {}}, False),
        ("status.?phase.orValue('none')", {"status": {}}, "none"),
        ("status[?'phase'].hasValue()", {"status": {}}, False),
        ("status.replicas == 2.0", {"status": {"replicas": 2}}, True),
        ("status.replicas < 2.5", {"status": {"replicas": 2}}, True),
        ("'A-B'.lowerAscii().split('-')[1]", {}, "b"),
        ("base64.encode(b'hi')", {}, "aGk="),
        ("sets.contains(a, [1.0])", {"a": [1, 2]}, True),
        ("sets.equivalent(a, [2, 1, 1])", {"a": [1, 2]}, True),
        ("sets.intersects(a, ['x'])", {"a": [1, 2]}, False),
        ("timestamp('2026-01-01T05:00:00Z').getHours()", {}, 5),
        ("kind == 'Widget' || missing.field", {"kind": "Widget"}, True),
        ("[1, 2].map(n, n * 2)", {}, [2, 4]),
    ],
)
def test_an_expression_gives_its_value(expression: str, variables: dict[str, Any], wanted: Any) -> None:
    """Optional types, strings, sets, encoders and mixed numbers work as in Flux."""
    assert cel.compile(expression).evaluate(variables) == wanted


@pytest.mark.parametrize(
    ("expression", "variables", "cause"),
    [
        ("status.phase == 'Pending'", {}, "no such attribute(s): status.phase"),
        ("'status.no' == status['a'].b[0]", {}, "no such attribute(s): status.a.b"),
        ("size(status.list) > 0", {}, "no such attribute(s): status.list"),
        (_READY, {}, "no such attribute(s): status.conditions"),
        (_READY, {"status": {}}, "no such key: conditions"),
        ("status.?phase.orValue('')", {}, "no such attribute(s): status.phase"),
        ("a / 0 == 1", {"a": 1}, "division by zero"),
        ("a[3] == 1", {"a": [1]}, "index out of bounds: 3"),
        ("a + 'x' == 1", {"a": 1}, "no such overload: _+_(int64, string)"),
        ("unknown(1)", {}, "no such overload: unknown(int64)"),
    ],
)
def test_a_failing_evaluation_says_what_flux_says(
    expression: str, variables: dict[str, Any], cause: str
) -> None:
    """An error is raised, never given as a value, and begins with Flux's own words."""
    with pytest.raises(cel.CelError) as caught:
        cel.compile(expression).evaluate(variables)
    assert caught.value.message == f"failed to evaluate the CEL expression '{expression}': {cause}"


def test_what_is_no_cel_is_stalled_with_the_place() -> None:
    """A syntax error gives Flux's message, the reason InvalidCELExpression and a marker at the place."""
    with pytest.raises(Stalled) as caught:
        cel.compile("data.")
    begin = "failed to parse the CEL expression 'data.': ERROR: <input>:1:6: Syntax error"
    assert caught.value.message.startswith(begin)
    assert caught.value.message.endswith(" | data.\n | .....^")
    assert caught.value.reason == "InvalidCELExpression"


def test_a_result_of_another_type_is_an_error() -> None:
    """A truth or a text is demanded, not coerced."""
    program = cel.compile("status.phase")
    variables = {"status": {"phase": "Ready"}}
    assert program.evaluate_string(variables) == "Ready"
    with pytest.raises(cel.CelError, match=r"failed to evaluate CEL expression as boolean: 'status\.phase'"):
        program.evaluate_bool(variables)
    with pytest.raises(cel.CelError, match="as string: '1 == 1'"):
        cel.compile("1 == 1").evaluate_string({})


def test_named_variables_are_checked_when_compiled() -> None:
    """With names, other names and another type of result are errors before any evaluation."""
    program = cel.compile("dep.status.size == self.spec.size", ("self", "dep"), "bool")
    assert program.evaluate_bool({"dep": {"status": {"size": 1}}, "self": {"spec": {"size": 1}}})
    with pytest.raises(cel.CelError, match=r"undeclared reference to 'other\.size'"):
        cel.compile("other.size == 1", ("self", "dep"))
    with pytest.raises(cel.CelError, match="output type mismatch: expected bool, got dyn"):
        cel.compile("dep.status.ready", ("self", "dep"), "bool")
    with pytest.raises(cel.CelError, match="output type mismatch: expected bool, got int"):
        cel.compile("1 + 1", ("self", "dep"), "bool")


def test_long_deep_and_endless_expressions_are_refused() -> None:
    """Length, nesting and iterations are bounded, so no expression can hold a thread."""
    with pytest.raises(cel.CelError, match=f"at most {cel.MAX_LENGTH} are allowed"):
        cel.compile("1 + " * cel.MAX_LENGTH + "1")
    with pytest.raises(cel.CelError, match="limit"):
        cel.compile("(" * 3000 + "1" + ")" * 3000)
    with pytest.raises(cel.CelError, match="budget"):
        cel.compile("a.all(x, a.all(y, a.all(z, x + y + z >= 0)))").evaluate({"a": list(range(300))})
    # Linear, where a backtracking engine would need longer than the universe.
    assert cel.compile("a.matches('^(a+)+$')").evaluate({"a": "a" * 5000 + "b"}) is False


def test_the_same_text_is_compiled_once() -> None:
    """Compiled expressions are remembered by their text and variables."""
    assert cel.compile("1 == 2 - 1") is cel.compile("1 == 2 - 1")
    assert cel.compile("self.a == 1", ("self",)) is not cel.compile("self.a == 1", ())
