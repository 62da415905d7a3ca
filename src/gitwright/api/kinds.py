"""The kinds gitwright runs, in one table, and the reading of their objects.

Role in the flow: controllers, the command line and the CRDs look a kind up here; `decode`
is the one door through which an object of ours becomes a typed value. It knows no cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

import msgspec

from gitwright.api import kustomize, meta, source
from gitwright.api.base import Resource
from gitwright.api.kustomize import Kustomization
from gitwright.api.source import GitRepository
from gitwright.core.errors import Stalled
from gitwright.core.objects import GVK

_R = TypeVar("_R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Column:
    """A column that kubectl prints: name, JSON path and type (`string` or `date`)."""

    name: str
    path: str
    type: str = "string"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of ours.

    Args:
        gvk: group, version and kind.
        plural: its name in URLs, such as `gitrepositories`.
        short_names: what kubectl and Flux's CLI call it for short.
        categories: what `kubectl get all` and the like find it by.
        columns: what kubectl prints besides the name.
        type: the type its objects decode to.
        manager: field manager of its status.
        about: one sentence for the reference.
    """

    gvk: GVK
    plural: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    columns: tuple[Column, ...]
    type: type[Resource]
    manager: str
    about: str

    @property
    def name(self) -> str:
        """The kind itself, such as `Kustomization`."""
        return self.gvk.kind

    @property
    def singular(self) -> str:
        """The kind in lower case."""
        return self.gvk.kind.lower()


_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
_READY: Final = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
_STATUS: Final = Column("Status", '.status.conditions[?(@.type=="Ready")].message')

GIT_REPOSITORY: Final = Kind(
    gvk=GVK(meta.SOURCE_GROUP, source.VERSION, meta.GIT_REPOSITORY),
    plural="gitrepositories",
    short_names=("gitrepo",),
    categories=("all", "fluxcd", "fluxcd-sources"),
    columns=(Column("URL", ".spec.url"), _AGE, _READY, _STATUS),
    type=GitRepository,
    manager=meta.SOURCE_MANAGER,
    about="GitRepository names a Git repository to watch; each new revision becomes an artifact.",
)
KUSTOMIZATION: Final = Kind(
    gvk=GVK(meta.KUSTOMIZE_GROUP, kustomize.VERSION, meta.KUSTOMIZATION),
    plural="kustomizations",
    short_names=("ks",),
    categories=("all", "fluxcd", "fluxcd-appliers"),
    columns=(_AGE, _READY, _STATUS),
    type=Kustomization,
    manager=meta.STATUS_MANAGER,
    about="Kustomization names a directory of a source to build, apply and keep applied.",
)
KINDS: Final = (GIT_REPOSITORY, KUSTOMIZATION)


def find(word: str) -> Kind | None:
    """Find a kind by what people call it: kind, singular, plural or short name, in any case."""
    wanted = word.lower()
    return next(
        (kind for kind in KINDS if wanted in (kind.singular, kind.plural, *kind.short_names)),
        None,
    )


@overload
def decode(kind: type[_R], obj: Mapping[str, Any]) -> _R: ...
@overload
def decode(kind: str, obj: Mapping[str, Any]) -> Resource: ...
def decode(kind: type[Resource] | str, obj: Mapping[str, Any]) -> Resource:
    """Read an object of ours as a typed value; everything its CRD admits is accepted.

    An object without a spec reads as Go's zero values do: nothing is asked for.

    Args:
        kind: the type to read, such as `Kustomization`, or the name of the kind.
        obj: the object as the API has it.

    Raises:
        Stalled: the object does not have the shape of its kind; `place` is the field's path,
            such as `$.spec.prune`.
        KeyError: gitwright does not run the kind.
    """
    found = next((known for known in KINDS if kind in (known.type, known.name)), None)
    if found is None:
        raise KeyError(kind)
    try:
        return msgspec.convert(obj, found.type)
    except msgspec.ValidationError as error:
        raise _refused(found, obj, str(error)) from None


_MISSING: Final = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")


def _refused(kind: Kind, obj: Any, text: str) -> Stalled:
    """Word msgspec's complaint, `what - at `path``, as an error of ours."""
    what, _, path = text.partition(" - at `")
    place = path.rstrip("`") or "$"
    missing = _MISSING.match(what)
    if missing:
        place = f"{place}.{missing['field']}"
        what = "the field is required"
    metadata = obj.get("metadata") if isinstance(obj, Mapping) else None
    named = metadata if isinstance(metadata, Mapping) else {}
    parts = (kind.name, named.get("namespace"), named.get("name"))
    return Stalled(
        f"{kind.name} is not valid",
        reason=meta.INVALID_SPEC,
        subject="/".join(str(part) for part in parts if part),
        place=place,
        detail=what[:1].lower() + what[1:],
        hint=f"correct {place.removeprefix('$.')}, or bring the CustomResourceDefinition "
        f"{kind.plural}.{kind.gvk.group} up to date so that it is refused at once",
    )
