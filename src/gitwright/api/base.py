"""What all kinds share: the base of every type, object metadata, conditions, references, durations.

Role in the flow: the types of each group are built from these. A field is written
`Annotated[type, doc("text", ...)]`; the text and the limits become the CRD and the
reference. It must not know any one kind.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from gitwright.api import meta
from gitwright.core import durations
from gitwright.core.objects import GVK, JSON, ObjectKey

# Source: the pattern of every duration in Flux's CRDs.
DURATION: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
DURATION_WITHOUT_HOURS: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$"

# Go's time.Duration holds no more; the CRD's pattern does. What is longer must not
# reach a timer (S13: a poisoned duration stops nobody).
LONGEST: Final = (2**63 - 1) / 1e9


def doc(
    text: str,
    *,
    pattern: str | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    minimum: int | None = None,
    default: Any = None,
    format: str = "",
    rules: tuple[Rule, ...] = (),
) -> msgspec.Meta:
    """Describe one field: its meaning, and what the API server enforces.

    Args:
        text: meaning, unit and default; becomes the CRD's description.
        pattern: regular expression a string must match.
        min_length: least number of characters.
        max_length: greatest number of characters.
        minimum: least value of an integer.
        default: value the API server fills in; None when it fills in nothing.
        format: OpenAPI format, such as `int64` or `date-time`.
        rules: CEL rules of the value.
    """
    extra: dict[str, Any] = {}
    if default is not None:
        extra["default"] = default
    if format:
        extra["format"] = format
    if rules:
        extra["x-kubernetes-validations"] = [{"rule": rule.rule, "message": rule.message} for rule in rules]
    if minimum is not None:
        return msgspec.Meta(description=text, ge=minimum, extra_json_schema=extra or None)
    return msgspec.Meta(
        description=text,
        pattern=pattern,
        min_length=min_length,
        max_length=max_length,
        extra_json_schema=extra or None,
    )


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all types: frozen, camelCase in JSON, unknown fields ignored."""


class Rule(Value, frozen=True, kw_only=True):
    """A CEL rule that the API server checks, and the message when it does not hold."""

    rule: str
    message: str


def plain(value: Any) -> Any:
    """Turn a value of these types back into JSON as the API has it, without empty fields."""
    # By way of JSON, because only that makes lists of tuples.
    return msgspec.json.decode(msgspec.json.encode(value))


@functools.lru_cache(maxsize=4096)
def seconds(text: str) -> float:
    """Read a duration of a spec, such as `1h30m`, as seconds; at most what Go can hold (292 years).

    Raises:
        ValueError: the text is not a duration.
    """
    return min(durations.parse(text), LONGEST)


class ObjectMeta(Value, frozen=True, kw_only=True):
    """The metadata that controllers look at."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: tuple[str, ...] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Condition(Value, frozen=True, kw_only=True):
    """One aspect of the object's present state."""

    type: Annotated[
        str,
        doc(
            "Type of the condition, in CamelCase.",
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            max_length=316,
        ),
    ]
    status: Annotated[Literal["True", "False", "Unknown"], doc("Whether it holds: True, False or Unknown.")]
    reason: Annotated[
        str,
        doc(
            "Why it last changed, one word in CamelCase.",
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            min_length=1,
            max_length=1024,
        ),
    ]
    message: Annotated[str, doc("The same for people; may be empty.", max_length=32768)]
    last_transition_time: Annotated[
        str, doc("When status, reason or message last changed (RFC 3339).", format="date-time")
    ]
    observed_generation: Annotated[
        int, doc("The object's generation that this was observed at.", minimum=0, format="int64")
    ] = 0


class LocalObjectReference(Value, frozen=True, kw_only=True):
    """Names an object in the namespace of the object that refers to it."""

    name: Annotated[str, doc("Name of the object.")]


class Resource(Value, frozen=True, kw_only=True):
    """Base of a kind: what every object of ours has besides spec and status."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def gvk(self) -> GVK:
        """Group, version and kind."""
        return GVK.parse(self.api_version, self.kind)

    @property
    def key(self) -> ObjectKey:
        """Identity in the cluster."""
        return ObjectKey(self.gvk.group, self.kind, self.metadata.namespace, self.metadata.name)

    @property
    def name(self) -> str:
        """The object's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The object's namespace."""
        return self.metadata.namespace

    @property
    def generation(self) -> int:
        """The generation of the spec."""
        return self.metadata.generation

    @property
    def annotations(self) -> Mapping[str, str]:
        """The object's annotations; empty when it has none."""
        return self.metadata.annotations or {}

    @property
    def labels(self) -> Mapping[str, str]:
        """The object's labels; empty when it has none."""
        return self.metadata.labels or {}

    @property
    def deleting(self) -> bool:
        """Whether the object is being deleted and waits for its finalizers."""
        return bool(self.metadata.deletion_timestamp)

    @property
    def finalized(self) -> bool:
        """Whether Flux's finalizer is on the object."""
        return meta.FINALIZER in (self.metadata.finalizers or ())

    @property
    def requested_at(self) -> str:
        """The last reconcile request (`reconcile.fluxcd.io/requestedAt`), or empty."""
        return self.annotations.get(meta.REQUESTED_AT, "")

    @property
    def event_metadata(self) -> dict[str, str]:
        """The annotations that are copied to the object's events, prefix included."""
        return {key: value for key, value in self.annotations.items() if key.startswith(meta.EVENT_PREFIX)}


class Status(Value, frozen=True, kw_only=True):
    """Base of a kind's status."""

    observed_generation: Annotated[
        int,
        doc("The generation that was last reconciled; -1 when none ever was.", format="int64"),
    ] = 0
    conditions: Annotated[tuple[Condition, ...], doc("The object's present state, aspect by aspect.")] = ()
    last_handled_reconcile_at: Annotated[
        str, doc("The last reconcile request that was answered (reconcile.fluxcd.io/requestedAt).")
    ] = ""

    @property
    def condition_list(self) -> list[JSON]:
        """The conditions as JSON, as `core.conditions` takes them."""
        found: list[JSON] = plain(self.conditions)
        return found
