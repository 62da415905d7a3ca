"""Expressions in CEL, the Common Expression Language, as Flux's resources hold them.

Role in the flow: `healthCheckExprs`, `readyExpr` and filters are compiled here once and
evaluated against objects. Pure; knows nothing of what an expression decides.

The environment is Flux's: optional types, the string, set and encoder extensions,
numbers compared across types. Only the evaluator differs (Google's C++ instead of Go),
so the wording of its errors is put into Go's where users meet it.

Source: fluxcd/pkg runtime/cel; spec/flux-v2.md sections 3.3 and 9; spec/security.md S12.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Literal

from cel_expr_python import cel
from cel_expr_python.ext import ext_encoders, ext_optional, ext_strings

from gitwright.core.errors import Stalled

# S12: the parser and the evaluator have budgets of their own (nesting, iterations, linear regular
# expressions); this bounds what reaches them.
MAX_LENGTH = 16 * 1024

Output = Literal["any", "bool", "string"]


class CelError(Stalled):
    """An expression that cannot be compiled, or that fails on the data it was given.

    The message is Flux's; `detail` is what the evaluator itself said.
    """

    reason = "InvalidCELExpression"


class Program:
    """A compiled expression; it holds no data and may be used from any thread.

    Args:
        expression: the text it was compiled from.
        compiled: the evaluator's form of it.
    """

    __slots__ = ("_compiled", "expression")

    def __init__(self, expression: str, compiled: cel.Expression) -> None:
        self.expression = expression
        self._compiled = compiled

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """Evaluate the expression.

        Args:
            variables: JSON values by name; for a health expression the object itself.

        Returns:
            The result as a plain Python value.

        Raises:
            CelError: the expression asks for what is not there, or mixes types.
        """
        try:
            result = self._compiled.eval(data=variables)
        except (RuntimeError, TypeError, ValueError) as error:
            raise self._failed(str(error)) from error
        # The evaluator gives errors as values whose content is a text, and so true.
        if result.type() in (cel.Type.ERROR, cel.Type.UNKNOWN):
            raise self._failed(str(result.value()))
        return result.plain_value()

    def evaluate_bool(self, variables: Mapping[str, Any]) -> bool:
        """Evaluate an expression that must give true or false.

        Raises:
            CelError: as `evaluate`, or the result is something else.
        """
        result = self.evaluate(variables)
        if result is True or result is False:
            return bool(result)
        raise CelError(f"failed to evaluate CEL expression as boolean: '{self.expression}'")

    def evaluate_string(self, variables: Mapping[str, Any]) -> str:
        """Evaluate an expression that must give a text.

        Raises:
            CelError: as `evaluate`, or the result is something else.
        """
        result = self.evaluate(variables)
        if isinstance(result, str):
            return result
        raise CelError(f"failed to evaluate CEL expression as string: '{self.expression}'")

    def _failed(self, text: str) -> CelError:
        said = _plain(text)
        cause = _as_go(said, self.expression)
        return CelError(
            f"failed to evaluate the CEL expression '{self.expression}': {cause}",
            detail=said if said != cause else "",
        )


def compile(expression: str, variables: tuple[str, ...] = (), output: Output = "any") -> Program:
    """Compile an expression; the newest thousand are remembered.

    Args:
        expression: the text, of at most `MAX_LENGTH` characters.
        variables: names of the objects it may use. With names the expression is checked as
            far as it can be, and anything else is an error; without, it is only parsed, and
            any name may turn up at evaluation, as health expressions need it.
        output: what a checked expression must give.

    Raises:
        CelError: the expression is too long, is no CEL, or fails the check.
    """
    if len(expression) > MAX_LENGTH:
        raise CelError(
            f"failed to parse the CEL expression '{expression[:64]}...': "
            f"it has {len(expression)} characters; at most {MAX_LENGTH} are allowed"
        )
    return _compile(expression, variables, output)


@lru_cache(maxsize=1024)
def _compile(expression: str, variables: tuple[str, ...], output: Output) -> Program:
    try:
        compiled = _environment(variables).compile(expression, disable_check=not variables)
    except RuntimeError as error:
        raise CelError(f"failed to parse the CEL expression '{expression}': {_plain(str(error))}") from error
    if variables and output != "any":
        given = compiled.return_type().name().lower()
        if given != output:
            raise CelError(f"CEL expression output type mismatch: expected {output}, got {given}")
    return Program(expression, compiled)


@cache
def _environment(variables: tuple[str, ...]) -> cel.Env:
    struct = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    extensions = [ext_encoders.ExtEncoders(), ext_strings.ExtStrings(), ext_optional.ExtOptional(), _sets()]
    return cel.NewEnv(extensions=extensions, variables=dict.fromkeys(variables, struct))


# --- the extension for sets, which the evaluator lacks. Source: cel-go, ext/sets.go


def _contains(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return all(item in one for item in other)


def _equivalent(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return _contains(one, other) and _contains(other, one)


def _intersects(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return any(item in one for item in other)


def _sets() -> cel.CelExtension:
    anything = cel.Type.List(cel.Type.DYN)
    functions = {"contains": _contains, "equivalent": _equivalent, "intersects": _intersects}
    return cel.CelExtension(
        "sets",
        [
            cel.FunctionDecl(
                f"sets.{name}",
                [
                    cel.Overload(
                        f"list_sets_{name}_list",
                        return_type=cel.Type.BOOL,
                        parameters=[anything, anything],
                        is_member=False,
                        impl=function,
                    )
                ],
            )
            for name, function in functions.items()
        ],
    )


# --- the evaluator's words into Go's

_CODE = re.compile(r"^[A-Z_]+: |\s*\[[A-Z_]+\]$")
_NO_VARIABLE = re.compile(r'^No value with name "([^"]+)" found')
_NO_KEY = re.compile(r'^Key not found in map : "?(.*?)"?$', re.DOTALL)
_NO_OVERLOAD = re.compile(r"^No matching overloads found : (.+)$", re.DOTALL)
_NO_INDEX = re.compile(r"^Index error: index=(-?\d+) ")
_NAME = r"[A-Za-z_]\w*\b(?!\s*\()"
_STRING = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_CHAIN = re.compile(
    rf"""'''.*?'''|\"\"\".*?\"\"\"|{_STRING}|(?<![\w.])(?P<chain>{_NAME}(?:\s*\.\s*\??{_NAME}|\[\s*(?:{_STRING})\s*\])*)""",
    re.DOTALL,
)
_STEP = re.compile(rf"{_STRING}|\w+")


def _plain(text: str) -> str:
    return _CODE.sub("", text).strip()


def _as_go(said: str, expression: str) -> str:
    variable = _NO_VARIABLE.match(said)
    if variable is not None:
        return f"no such attribute(s): {_attribute(variable.group(1), expression)}"
    key = _NO_KEY.match(said)
    if key is not None:
        return f"no such key: {key.group(1)}"
    overload = _NO_OVERLOAD.match(said)
    if overload is not None:
        return f"no such overload: {overload.group(1)}"
    index = _NO_INDEX.match(said)
    if index is not None:
        return f"index out of bounds: {index.group(1)}"
    return "division by zero" if said == "divide by zero" else said


def _attribute(variable: str, expression: str) -> str:
    """Give the whole path that begins at a missing variable, as Go names it."""
    for match in _CHAIN.finditer(expression):
        if match["chain"] is not None:
            steps = [step.strip("'\"") for step in _STEP.findall(match["chain"])]
            if steps[0] == variable:
                return ".".join(steps)
    return variable
