"""The kinds the command line knows: their names, and what is shown of each.

Role in the flow: verbs turn the words of the command line into kinds here, and
objects into rows. Pure; knows no cluster and no console.

Source: the names and columns of Flux's command line, the short names of its CRDs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gitwright.api import kinds as api_kinds
from gitwright.cli.failures import Misuse
from gitwright.cli.output import human_age, shorten
from gitwright.core import conditions
from gitwright.core.objects import GVK, JSON


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        header: its name, in capitals.
        value: from an object and the time (seconds since the epoch) to the text.
    """

    header: str
    value: Callable[[JSON, float], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that the verbs act on.

    Args:
        api: the kind itself, with its plural and short names.
        human: what Flux calls it in sentences, such as `source git`.
        done: what Flux says before the revision when it has reconciled.
        revision: the revision an object has reached, or empty.
        wide: columns that `-o wide` adds.
    """

    api: api_kinds.Kind
    human: str
    done: str
    revision: Callable[[JSON], str]
    wide: tuple[Column, ...]

    @property
    def gvk(self) -> GVK:
        """Group, version and kind."""
        return self.api.gvk

    @property
    def name(self) -> str:
        """The kind itself, such as `Kustomization`."""
        return self.api.name

    @property
    def words(self) -> frozenset[str]:
        """Every word that means this kind, in lower case."""
        full = (f"{self.api.plural}.{self.gvk.group}", f"{self.api.singular}.{self.gvk.group}")
        return frozenset((self.api.singular, self.api.plural, *self.api.short_names, *full))


@dataclass(frozen=True, slots=True)
class Target:
    """What the words of a command line mean.

    Args:
        kinds: the kinds, in the order they are shown.
        names: names of objects; empty for all of them.
        everything: the words said `all`.
    """

    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    everything: bool = False


def nested(obj: Mapping[str, Any], *path: str) -> Any:
    """Read a field below others; None where one of them is missing."""
    value: Any = obj
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def ready(obj: JSON) -> tuple[str, str]:
    """Give status and message of the Ready condition, worded as Flux does when there is none yet."""
    found = conditions.get(nested(obj, "status", "conditions") or [], conditions.READY)
    if found is None:
        return "False", "waiting to be reconciled"
    return str(found.get("status", "")), str(found.get("message", ""))


def is_suspended(obj: JSON) -> bool:
    """Tell whether an object's reconciliation is suspended."""
    return bool(nested(obj, "spec", "suspend"))


def seconds_of(timestamp: Any) -> float | None:
    """Read an RFC 3339 time as seconds since the epoch; None when it is no time."""
    try:
        return datetime.fromisoformat(str(timestamp).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def age(obj: JSON, now: float) -> str:
    """Give the age of an object since its creation."""
    created = seconds_of(nested(obj, "metadata", "creationTimestamp"))
    return "<unknown>" if created is None else human_age(now - created)


def source_of(obj: JSON) -> str:
    """Name a Kustomization's source as Flux does: `Kind/namespace/name`."""
    reference = nested(obj, "spec", "sourceRef") or {}
    namespace = reference.get("namespace") or nested(obj, "metadata", "namespace") or ""
    return f"{reference.get('kind', '')}/{namespace}/{reference.get('name', '')}"


def git_reference(obj: JSON) -> str:
    """Name what a GitRepository follows: the first that is set, in Flux's order of precedence."""
    reference = nested(obj, "spec", "ref") or {}
    for field in ("commit", "name", "semver", "tag", "branch"):
        if reference.get(field):
            return f"{field}={shorten(str(reference[field]))}"
    return "branch=master"


def _text(*path: str) -> Callable[[JSON, float], str]:
    return lambda obj, _now: str(nested(obj, *path) or "")


KUSTOMIZATION: Final = Kind(
    api=api_kinds.KUSTOMIZATION,
    human="kustomization",
    done="applied revision",
    revision=lambda obj: str(nested(obj, "status", "lastAppliedRevision") or ""),
    wide=(
        Column("AGE", age),
        Column("SOURCE", lambda obj, _now: source_of(obj)),
        Column("PATH", _text("spec", "path")),
    ),
)
GIT_REPOSITORY: Final = Kind(
    api=api_kinds.GIT_REPOSITORY,
    human="source git",
    done="fetched revision",
    revision=lambda obj: str(nested(obj, "status", "artifact", "revision") or ""),
    wide=(
        Column("AGE", age),
        Column("URL", _text("spec", "url")),
        Column("REF", lambda obj, _now: git_reference(obj)),
    ),
)
# Sources first, as Flux shows them: what comes from something stands below it.
KINDS: Final = (GIT_REPOSITORY, KUSTOMIZATION)
SOURCES: Final = {"git": GIT_REPOSITORY}

# Every kind that Flux's `events` knows, with the words for it: events of kinds that others run are shown too.
EVENT_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Kustomization": ("kustomizations", "ks"),
    "HelmRelease": ("helmreleases", "hr"),
    "GitRepository": ("gitrepositories", "gitrepo"),
    "OCIRepository": ("ocirepositories", "ocirepo"),
    "HelmRepository": ("helmrepositories", "helmrepo"),
    "HelmChart": ("helmcharts", "hc"),
    "Bucket": ("buckets",),
    "ExternalArtifact": ("externalartifacts", "ea"),
    "ArtifactGenerator": ("artifactgenerators", "ag"),
    "ImageRepository": ("imagerepositories", "imgrepo", "imagerepo"),
    "ImagePolicy": ("imagepolicies", "imgpol", "imagepol"),
    "ImageUpdateAutomation": ("imageupdateautomations", "iua", "imgupd", "imgauto"),
    "Alert": ("alerts",),
    "Provider": ("providers",),
    "Receiver": ("receivers",),
}


def find(word: str) -> Kind | None:
    """Find the kind that a word means, in any case of letters."""
    return next((kind for kind in KINDS if word.lower() in kind.words), None)


def parse(words: Sequence[str], *, allow_all: bool = False) -> Target:
    """Read the words that name kinds and objects.

    They are `KIND [NAME...]`, `KIND/NAME...`, `source git [NAME...]`, and with
    `allow_all` also `all` and `sources all`.

    Raises:
        Misuse: the words name no kind, or not only one.
    """
    if not words:
        raise Misuse("a kind is missing", hint=_known(allow_all))
    head, rest = words[0].lower(), tuple(words[1:])
    if head in ("source", "sources"):
        return _parse_source(rest, allow_all)
    if head == "all" and allow_all:
        return Target(KINDS, _no_names(rest, "all"), everything=True)
    if "/" in head:
        return _parse_slashed(words, allow_all)
    kind = find(head)
    if kind is None:
        raise _unknown(words[0], allow_all)
    return Target((kind,), rest)


def _parse_source(words: tuple[str, ...], allow_all: bool) -> Target:
    known = ", ".join([*SOURCES, *(["all"] if allow_all else [])])
    if not words:
        raise Misuse("the kind of source is missing", hint=f"kinds of source: {known}")
    head, rest = words[0].lower(), words[1:]
    if head == "all" and allow_all:
        return Target(tuple(SOURCES.values()), _no_names(rest, "sources all"), everything=True)
    kind = SOURCES.get(head) or find(head)
    if kind is None or kind not in SOURCES.values():
        raise Misuse(f"{words[0]!r} is not a kind of source", hint=f"kinds of source: {known}")
    return Target((kind,), rest)


def _parse_slashed(words: Sequence[str], allow_all: bool) -> Target:
    found: dict[Kind, list[str]] = {}
    for word in words:
        head, _, name = word.partition("/")
        kind = find(head)
        if kind is None:
            raise _unknown(head, allow_all)
        if not name:
            raise Misuse(f"{word!r} names no object", hint=f"write {head}/NAME")
        found.setdefault(kind, []).append(name)
    if len(found) > 1:
        raise Misuse("objects of one kind at a time", hint="run the command once per kind")
    ((kind, names),) = found.items()
    return Target((kind,), tuple(names))


def _no_names(rest: tuple[str, ...], word: str) -> tuple[str, ...]:
    if rest:
        raise Misuse(f"{word!r} takes no names", hint="name a kind to see one object")
    return ()


def _unknown(word: str, allow_all: bool) -> Misuse:
    known = sorted({word for kind in KINDS for word in kind.words} | {"all", "sources"})
    close = difflib.get_close_matches(word.lower(), known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return Misuse(f"{word!r} is not a recognized kind", hint=meant + _known(allow_all))


def _known(allow_all: bool) -> str:
    named = ["kustomizations (ks)", "sources git (gitrepositories, gitrepo)"]
    return "kinds: " + ", ".join([*named, *(["sources all", "all"] if allow_all else [])])


def event_kind(word: str) -> str:
    """Find the kind whose events a word means, such as `ks` or `GitRepository`.

    Raises:
        Misuse: it is no kind of Flux.
    """
    lowered = word.lower()
    for kind, names in EVENT_KINDS.items():
        if lowered == kind.lower() or lowered in names:
            return kind
    raise Misuse(f"'{word}' is not a recognized Flux kind", hint="kinds: " + ", ".join(EVENT_KINDS))


def headers(kind: Kind, *, with_namespace: bool, wide: bool = False, with_source: bool = False) -> list[str]:
    """Give the column names of a kind's table."""
    named = ["NAMESPACE", "NAME"] if with_namespace else ["NAME"]
    source = ["SOURCE"] if with_source and kind is KUSTOMIZATION and not wide else []
    extra = [column.header for column in kind.wide] if wide else []
    return [*named, *source, "REVISION", "SUSPENDED", "READY", *extra, "MESSAGE"]


def row(
    kind: Kind,
    obj: JSON,
    now: float,
    *,
    with_namespace: bool,
    wide: bool = False,
    with_source: bool = False,
    with_kind: bool = False,
) -> list[str]:
    """Give one object's row under `headers`.

    Args:
        kind: the kind of the object.
        obj: the object.
        now: the time, in seconds since the epoch.
        with_namespace: begin with the namespace.
        wide: with the kind's further columns.
        with_source: with the source of a Kustomization.
        with_kind: write the name as `kind/name`, for tables of several kinds.
    """
    metadata = obj.get("metadata", {})
    name = str(metadata.get("name", ""))
    named = [f"{kind.api.singular}/{name}" if with_kind else name]
    if with_namespace:
        named.insert(0, str(metadata.get("namespace", "")))
    status, message = ready(obj)
    source = [source_of(obj)] if with_source and kind is KUSTOMIZATION and not wide else []
    extra = [column.value(obj, now) for column in kind.wide] if wide else []
    revision = shorten(kind.revision(obj))
    return [*named, *source, revision, str(is_suspended(obj)), status, *extra, shorten(message)]


@dataclass(frozen=True, slots=True)
class StatusSelector:
    """A choice of objects by one condition, such as `ready=false` or `ready!=true`."""

    condition: str
    status: str
    negated: bool

    @classmethod
    def parse(cls, text: str) -> StatusSelector:
        """Read a selector.

        Raises:
            Misuse: it is not of the form `type=status` or `type!=status`.
        """
        separator = "!=" if "!=" in text else "="
        condition, found, status = text.partition(separator)
        if not found or not condition or not status:
            raise Misuse(
                f"expected status selector in type=status or type!=status format, but found: {text}",
                place="--status-selector",
            )
        return cls(condition.lower(), status.lower(), separator == "!=")

    def matches(self, obj: JSON) -> bool:
        """Tell whether an object is chosen; a condition it does not have equals nothing."""
        found = [
            str(condition.get("status", "")).lower()
            for condition in nested(obj, "status", "conditions") or []
            if str(condition.get("type", "")).lower() == self.condition
        ]
        return (bool(found) and found[-1] == self.status) != self.negated
