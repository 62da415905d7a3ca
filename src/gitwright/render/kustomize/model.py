"""Objects on their way through a build: the object itself and what is remembered about it.

Role in the flow: every transformer works on a `ResourceList` of `Resource`s. kustomize keeps
former names in annotations of the object; here they are fields beside it. Nothing here reads
files or knows kustomizations. Source: kustomize api/resource, api/resmap, kyaml/resid.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gitwright.core.objects import JSON
from gitwright.formats import scalars
from gitwright.formats.yaml import Blanks, Quoted, written
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.gvk import Gvk as Gvk
from gitwright.render.kustomize.scopes import Scopes

if TYPE_CHECKING:
    from gitwright.render.kustomize.schema import Lookup
    from gitwright.render.kustomize.tree import Root

NO_NAMESPACE = "_non_namespaceable_"
"""The effective namespace of cluster-scoped objects."""
_DOMAIN = "internal.config.kubernetes.io"
PREVIOUS_NAMES = f"{_DOMAIN}/previousNames"
PREVIOUS_NAMESPACES = f"{_DOMAIN}/previousNamespaces"
PREVIOUS_KINDS = f"{_DOMAIN}/previousKinds"
PREFIXES = f"{_DOMAIN}/prefixes"
SUFFIXES = f"{_DOMAIN}/suffixes"
REFERRED_BY = f"{_DOMAIN}/refBy"
BEHAVIOUR = f"{_DOMAIN}/generatorBehavior"
NEEDS_HASH = f"{_DOMAIN}/needsHashSuffix"
ALLOW_NAME_CHANGE = f"{_DOMAIN}/allowNameChange"
ALLOW_KIND_CHANGE = f"{_DOMAIN}/allowKindChange"
ORIGIN = "config.kubernetes.io/origin"
TRANSFORMATIONS = "alpha.config.kubernetes.io/transformations"
INTERNAL = frozenset(
    {
        PREVIOUS_NAMES,
        PREVIOUS_NAMESPACES,
        PREVIOUS_KINDS,
        PREFIXES,
        SUFFIXES,
        REFERRED_BY,
        BEHAVIOUR,
        NEEDS_HASH,
        ALLOW_NAME_CHANGE,
        ALLOW_KIND_CHANGE,
        f"{_DOMAIN}/path",
        f"{_DOMAIN}/index",
        f"{_DOMAIN}/seqindent",
        f"{_DOMAIN}/id",
        f"{_DOMAIN}/annotations-migration-resource-id",
        "config.kubernetes.io/path",
        "config.kubernetes.io/index",
        "config.k8s.io/id",
        f"{_DOMAIN}/helm-generated",
    }
)
"""Annotations that kustomize takes away from every object at the end."""

_UNEQUAL = "number of previous names, number of previous namespaces, number of previous kinds not equal"

Behaviour = Literal["", "create", "replace", "merge"]


class Id(NamedTuple):
    """Identity of an object in a build; two are the same when these are equal.

    `namespace` is the effective one: `default` when the object gives none, `NO_NAMESPACE` for
    what is certainly cluster-scoped.
    """

    gvk: Gvk
    namespace: str
    name: str

    @property
    def cluster_scoped(self) -> bool:
        """Whether the kind is certainly cluster-scoped."""
        return self.namespace == NO_NAMESPACE

    def __str__(self) -> str:
        namespace = "[noNs]" if self.namespace in ("default", NO_NAMESPACE) else self.namespace
        return f"{self.gvk}/{self.name or '[noName]'}.{namespace}"


class Former(NamedTuple):
    """What an object was called before a transformer changed it; its apiVersion is always the present one."""

    name: str
    namespace: str
    kind: str


@functools.lru_cache(maxsize=4096)
def gvk_of(api_version: str, kind: str) -> Gvk:
    """Give group, version and kind of the fields of an object."""
    return Gvk(*split_api_version(api_version), kind)


def split_api_version(api_version: str) -> tuple[str, str]:
    """Give group and version of an `apiVersion` field."""
    group, slash, version = api_version.partition("/")
    return (group, version) if slash else ("", api_version)


class Untyped(str):
    """A text that a transformer put together and that has no type yet.

    What replaces it is typed anew: `5` in its place is a number. kustomize leaves such fields
    without a tag.
    """

    __slots__ = ()


def untyped(old: Any, text: str) -> Any:
    """Give what becomes of a scalar that gets another text and loses its type, but keeps its quotes."""
    if isinstance(old, Quoted):
        return Quoted(text)
    value = scalars.resolve_kyaml(text) if text else text
    return Untyped(text) if isinstance(value, str) else value


def text_of(value: Any) -> str:
    """Give a scalar as it was written, as kustomize takes names and namespaces of any type."""
    if isinstance(value, str):
        return value.text if isinstance(value, scalars.WrittenText) else value
    return "" if value is None or isinstance(value, dict | list) else scalars.text_of(value)


def texts(values: Any) -> Any:
    """Give labels or annotations as texts: what was written, also of nulls; anything but a map as it is."""
    if not isinstance(values, dict) or all(type(value) in (str, Quoted) for value in values.values()):
        return values
    words = values.words if isinstance(values, Blanks) else {}
    return {
        name: words.get(name, "null") if value is None else written(str(text_of(value)))
        for name, value in values.items()
    }


@functools.lru_cache(maxsize=4096)
def check_key(name: str) -> None:
    """Refuse a key that is no text when it is written without quotes, as kustomize would write it.

    Raises:
        KustomizeError: it reads as a number, a boolean, null, a date or a merge.
    """
    if name == "<<" or scalars.resolve_kyaml(name) != name:
        raise KustomizeError(
            f"json: unsupported type: map[interface {{}}]interface {{}}: key '{name}'",
            detail="expected a key that YAML reads as text",
            hint=f"kustomize cannot write '{name}' as a key; choose another name",
        )


@dataclass(slots=True, eq=False)
class Resource:
    """One object of a build.

    Args:
        obj: the object, changed in place by transformers; empty once it was deleted.
        scopes: which kinds are cluster-scoped, one value for the whole build.
        source: the file it was read from or made by, for messages.
        former: names, namespaces and kinds it had, oldest first.
        prefixes: name prefixes given so far, first one first.
        suffixes: likewise.
        behaviour: of a generated object: what to do when it exists.
        needs_hash: whether the name gets a hash of the content.
        referred_by: identities of objects that name this one.
        variables: names of `vars` that read this object.
    """

    obj: JSON
    scopes: Scopes
    source: str = ""
    former: list[Former] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    behaviour: Behaviour = ""
    needs_hash: bool = False
    referred_by: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The `kind` field."""
        return text_of(self.obj.get("kind"))

    @property
    def api_version(self) -> str:
        """The `apiVersion` field."""
        return text_of(self.obj.get("apiVersion"))

    @property
    def gvk(self) -> Gvk:
        """Group, version and kind as they are now."""
        return gvk_of(self.api_version, self.kind)

    @property
    def name(self) -> str:
        """The name as it is now."""
        metadata = self.obj.get("metadata")
        return text_of(metadata.get("name")) if isinstance(metadata, dict) else ""

    @property
    def namespace(self) -> str:
        """The namespace field as it is now; empty when there is none."""
        metadata = self.obj.get("metadata")
        return text_of(metadata.get("namespace")) if isinstance(metadata, dict) else ""

    @property
    def labels(self) -> dict[str, Any]:
        """The labels; changes to what is given do not reach the object."""
        return self._strings("labels")

    @property
    def annotations(self) -> dict[str, Any]:
        """The annotations; changes to what is given do not reach the object."""
        return self._strings("annotations")

    def _strings(self, name: str) -> dict[str, Any]:
        metadata = self.obj.get("metadata")
        found = metadata.get(name) if isinstance(metadata, dict) else None
        return dict(found) if isinstance(found, dict) else {}

    @property
    def id(self) -> Id:
        """The identity as it is now."""
        obj = self.obj
        gvk = gvk_of(text_of(obj.get("apiVersion")), text_of(obj.get("kind")))
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict):
            return Id(gvk, self.scopes.effective(gvk, ""), "")
        namespace = self.scopes.effective(gvk, text_of(metadata.get("namespace")))
        return Id(gvk, namespace, text_of(metadata.get("name")))

    @property
    def original(self) -> Id:
        """The identity it had first."""
        return self._former_id(self.former[0]) if self.former else self.id

    @property
    def formers(self) -> list[Id]:
        """The identities it had before, oldest first; without the present one."""
        return [self._former_id(former) for former in self.former]

    def _former_id(self, former: Former) -> Id:
        gvk = gvk_of(self.api_version, former.kind)
        return Id(gvk, self.scopes.effective(gvk, former.namespace), former.name)

    def remember(self) -> None:
        """Keep the present identity as a former one, before name, namespace or kind changes."""
        now = self.id
        self.former.append(Former(now.name, now.namespace, now.gvk.kind))
        if "," in now.name or "," in now.namespace or "," in now.gvk.kind:
            # kustomize keeps these in lists with commas, and reads them back so.
            self._reread()

    def _reread(self) -> None:
        lists = [",".join(parts).split(",") for parts in zip(*self.former, strict=True)]
        if len({len(parts) for parts in lists}) > 1:
            raise KustomizeError(
                _UNEQUAL, place=self.source, detail="a name, namespace or kind has a comma in it"
            )
        self.former = [Former(*parts) for parts in zip(*lists, strict=True)]

    def set_name(self, name: str) -> None:
        """Change the name."""
        self._metadata()["name"] = name

    def set_namespace(self, namespace: str) -> None:
        """Change the namespace; empty takes the field away."""
        if namespace:
            self._metadata()["namespace"] = namespace
        elif isinstance(self.obj.get("metadata"), dict):
            self.obj["metadata"].pop("namespace", None)

    def set_annotation(self, name: str, value: str) -> None:
        """Give the object an annotation."""
        metadata = self._metadata()
        annotations = metadata.get("annotations")
        if not isinstance(annotations, dict):
            annotations = metadata["annotations"] = {}
        annotations[name] = value

    def _metadata(self) -> JSON:
        metadata = self.obj.get("metadata")
        if not isinstance(metadata, dict):
            metadata = self.obj["metadata"] = {}
        return metadata

    @property
    def deleted(self) -> bool:
        """Whether a patch took the whole object away."""
        return not self.obj

    def expose(self) -> None:
        """Write what is remembered into the object's annotations, where kustomize keeps it.

        For patches and paths that reach `metadata.annotations`: with kustomize they find these
        there (an annotation can be added by JSON patch although the file had none) and can
        take them away. `absorb` is the way back. Does nothing when nothing is remembered.
        """
        kept = {
            PREVIOUS_NAMES: ",".join(former.name for former in self.former),
            PREVIOUS_NAMESPACES: ",".join(former.namespace for former in self.former),
            PREVIOUS_KINDS: ",".join(former.kind for former in self.former),
            PREFIXES: ",".join(self.prefixes),
            SUFFIXES: ",".join(self.suffixes),
            BEHAVIOUR: self.behaviour,
            NEEDS_HASH: "enabled" if self.needs_hash else "",
            REFERRED_BY: ",".join(self.referred_by),
        }
        for name, value in kept.items():
            if value:
                self.set_annotation(name, value)

    def absorb(self) -> None:
        """Take what is remembered out of the annotations again, as far as it is still there."""
        metadata = self.obj.get("metadata")
        found = metadata.get("annotations") if isinstance(metadata, dict) else None
        annotations = found if isinstance(found, dict) else {}

        def take(name: str) -> list[str]:
            value = text_of(annotations.pop(name, None))
            return value.split(",") if value else []

        names = take(PREVIOUS_NAMES)
        namespaces = take(PREVIOUS_NAMESPACES) or [""]
        kinds = take(PREVIOUS_KINDS) or [""]
        if names and (len(names) != len(namespaces) or len(names) != len(kinds)):
            raise KustomizeError(_UNEQUAL, place=self.source)
        self.former = [Former(*former) for former in zip(names, namespaces, kinds, strict=False)]
        self.prefixes, self.suffixes = take(PREFIXES), take(SUFFIXES)
        behaviour = "".join(take(BEHAVIOUR))
        self.behaviour = behaviour if behaviour in ("create", "replace", "merge") else ""  # type: ignore[assignment]
        self.needs_hash = take(NEEDS_HASH) == ["enabled"]
        self.referred_by = take(REFERRED_BY)
        if isinstance(found, dict) and not found and isinstance(metadata, dict):
            del metadata["annotations"]

    def copy(self) -> Resource:
        """Give a copy that shares nothing that changes."""
        return Resource(
            copy_value(self.obj),
            self.scopes,
            self.source,
            list(self.former),
            list(self.prefixes),
            list(self.suffixes),
            self.behaviour,
            self.needs_hash,
            list(self.referred_by),
            list(self.variables),
        )


def copy_value(value: Any) -> Any:
    """Copy a JSON value with everything in it; several times as fast as `copy.deepcopy`."""
    if isinstance(value, dict):
        copied = {
            key: copy_value(item) if isinstance(item, dict | list) else item for key, item in value.items()
        }
        return value.like(copied) if isinstance(value, Blanks) else copied
    if isinstance(value, list):
        return [copy_value(item) if isinstance(item, dict | list) else item for item in value]
    return value


def loaded(obj: JSON, scopes: Scopes, source: str) -> Resource:
    """Make a resource of an object that was read: what it says of its own former names counts.

    Args:
        obj: the object; it is kept.
        scopes: of the build.
        source: the file.

    Raises:
        KustomizeError: what it says contradicts itself.
    """
    resource = Resource(obj, scopes, source)
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if isinstance(annotations, dict) and any(name.startswith(_DOMAIN) for name in annotations):
        resource.absorb()
    return resource


class ResourceList:
    """The objects of a build in their order, no identity twice.

    Transformers change `items` in place and call `changed` afterwards when an identity may
    have become another one; indexes are made when asked for and kept until then.
    """

    def __init__(self, items: Iterable[Resource] = ()) -> None:
        self.items: list[Resource] = list(items)
        self._current: dict[Id, Resource] | None = None
        self._any: dict[Id, list[Resource]] | None = None
        self._names: dict[str, list[Resource]] | None = None

    def __iter__(self) -> Iterator[Resource]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def changed(self) -> None:
        """Forget the indexes: identities may have changed, or objects come or gone."""
        self._current = None
        self._any = None
        self._names = None

    def append(self, resource: Resource) -> None:
        """Add an object at the end.

        Raises:
            KustomizeError: one of the same identity is there.
        """
        current = self.by_current()
        identity = resource.id
        if identity in current:
            before = current[identity].source
            raise KustomizeError(
                f"may not add resource with an already registered id: {identity}",
                place=resource.source,
                detail=f"the same object is in {before}" if before else "",
            )
        current[identity] = resource
        self.items.append(resource)
        self._names = None
        if self._any is not None:
            for known in dict.fromkeys([*resource.formers, identity]):
                self._any.setdefault(known, []).append(resource)

    def extend(self, resources: Iterable[Resource]) -> None:
        """Add several, as `append` does."""
        for resource in resources:
            self.append(resource)

    def by_current(self) -> dict[Id, Resource]:
        """Give the objects by their present identity; of equal ones the first."""
        if self._current is None:
            self._current = {}
            for resource in self.items:
                self._current.setdefault(resource.id, resource)
        return self._current

    def by_any(self) -> dict[Id, list[Resource]]:
        """Give the objects by each identity they have or had, in order."""
        if self._any is None:
            self._any = {}
            for resource in self.items:
                for identity in dict.fromkeys([*resource.formers, resource.id]):
                    self._any.setdefault(identity, []).append(resource)
        return self._any

    def by_name(self) -> dict[str, list[Resource]]:
        """Give the objects by each name they have or had, in order."""
        if self._names is None:
            self._names = {}
            for resource in self.items:
                for name in dict.fromkeys([*(former.name for former in resource.former), resource.name]):
                    self._names.setdefault(name, []).append(resource)
        return self._names

    def rebuild(self, keep: Callable[[Resource], bool] = lambda resource: not resource.deleted) -> None:
        """Leave out what is not to be kept and refuse equal identities, as kustomize does after patches.

        Raises:
            KustomizeError: two objects have one identity.
        """
        items, self.items = self.items, []
        self.changed()
        self.extend(resource for resource in items if keep(resource))


@dataclass(frozen=True, slots=True)
class PatchEntry:
    """One patch of a kustomization, as written there.

    Args:
        kind: `patch` for the field patches (strategic or JSON, told by the content),
            `strategic` for an item of patchesStrategicMerge (`path` is a file, or else the patch itself),
            `json6902` for an item of patchesJson6902.
        path: file relative to the kustomization, or empty.
        patch: the patch in place, or empty.
        target: the selector as given (group, version, kind, name, namespace, labelSelector,
            annotationSelector), all strings; None when there is none.
        options: allowNameChange, allowKindChange.
        where: where it stands, such as `patches[2]`, for messages.
    """

    kind: Literal["patch", "strategic", "json6902"]
    path: str = ""
    patch: str = ""
    target: dict[str, str] | None = None
    options: dict[str, bool] = field(default_factory=dict)
    where: str = ""


@dataclass(slots=True)
class Context:
    """What transformers may use beside the objects.

    Args:
        root: the folder of the kustomization: reads its files.
        file: the kustomization file from the tree's root, for messages.
        schema: merge keys and strategies of kinds.
        scopes: which kinds are cluster-scoped.
        warnings: what the user should know; grows.
    """

    root: Root
    file: str
    schema: Lookup
    scopes: Scopes
    warnings: list[str]
