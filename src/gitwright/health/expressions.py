"""Health of custom resources by the expressions of `spec.healthCheckExprs`.

Role in the flow: compiled once per generation of a Kustomization, asked for each of its
objects. Knows objects as JSON only.

Source: fluxcd/pkg runtime/cel (RFC 0009); spec/flux-v2.md section 3.3 (Health).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitwright.core.errors import Stalled
from gitwright.core.objects import GVK, JSON, GroupKind
from gitwright.formats import cel
from gitwright.health.model import Health, Status, find

_TERMINAL = "Reconciliation failed terminally due to configuration error"
# In this order, which decides where several are true.
_ORDER: tuple[tuple[str, Status], ...] = (
    ("inProgress", "InProgress"),
    ("failed", "Failed"),
    ("current", "Current"),
)
# In this order Flux parses them, which decides whose error is shown.
_NAMES = (("current", "Current"), ("failed", "Failed"), ("inProgress", "InProgress"))


@dataclass(frozen=True, slots=True)
class Expressions:
    """Compiled expressions by group and kind; an empty kind stands for a whole group."""

    rules: Mapping[GroupKind, Mapping[str, cel.Program]]

    @classmethod
    def compile(cls, checks: Sequence[JSON]) -> Expressions:
        """Compile `spec.healthCheckExprs`.

        Args:
            checks: items with `apiVersion` (of which only the group counts), `kind` or none for
                the whole group, `current`, and `failed` and `inProgress` or not.

        Raises:
            Stalled: with reason InvalidCELExpression; two items are for the same kind, one has
                no `current`, or one does not compile.
        """
        rules: dict[GroupKind, Mapping[str, cel.Program]] = {}
        for index, check in enumerate(checks):
            gvk = GVK.parse(str(check.get("apiVersion") or ""), str(check.get("kind") or ""))
            kind = gvk.group_kind
            if kind in rules:
                raise _invalid(
                    f"duplicate custom health check for GroupKind {kind} at healthchecks[{index}]", index
                )
            rules[kind] = _programs(check, index)
        return cls(rules)

    def covers(self, kind: GroupKind) -> bool:
        """Tell whether the expressions judge objects of a kind."""
        return kind in self.rules or GroupKind(kind.group, "") in self.rules

    def assess(self, obj: JSON, kind: GroupKind) -> Health:
        """Judge an object of a kind that is covered.

        A generation that its controller has not observed comes first, then the expressions;
        one that cannot be evaluated gives Unknown with Flux's message.
        """
        observed, wanted = find(obj, "status", "observedGeneration"), find(obj, "metadata", "generation")
        if type(observed) is int and type(wanted) is int and observed != wanted:
            return Health("InProgress", f"generation {wanted} is not observed yet (latest: {observed})")
        programs = self.rules.get(kind) or self.rules[GroupKind(kind.group, "")]
        variables = _variables(obj, programs)
        try:
            for name, status in _ORDER:
                program = programs.get(name)
                if program is not None and program.evaluate_bool(variables):
                    return Health(status, f"the expression `{name}` is true: {program.expression}")
        except cel.CelError as error:
            return Health("Unknown", error.message)
        return Health("InProgress", f"no expression is true yet: {programs['current'].expression}")


def _programs(check: JSON, index: int) -> Mapping[str, cel.Program]:
    begin = f"failed to create custom status evaluator for healthchecks[{index}]"
    if not check.get("current"):
        raise _invalid(f"{begin}: expression Current not specified", index)
    programs = {}
    for name, title in _NAMES:
        if check.get(name):
            try:
                programs[name] = cel.compile(str(check[name]))
            except cel.CelError as error:
                message = f"{begin}: failed to parse the expression {title}: {error.message}"
                raise _invalid(message, index, name) from error
    return programs


def _invalid(message: str, index: int, name: str = "") -> Stalled:
    place = f"spec.healthCheckExprs[{index}]"
    return Stalled(
        f"{_TERMINAL}: {message}",
        reason="InvalidCELExpression",
        place=f"{place}.{name}" if name else place,
        hint="correct the expression; nothing is applied until then",
    )


def _variables(obj: JSON, programs: Mapping[str, cel.Program]) -> Mapping[str, Any]:
    # Half of a live object is bookkeeping that hardly any expression asks for; converting it costs.
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return obj
    if any("managedFields" in program.expression for program in programs.values()):
        return obj
    slim = {name: value for name, value in metadata.items() if name != "managedFields"}
    return {**obj, "metadata": slim}
