"""Accumulating: a kustomization, what it is made of, and all its transformers in their order.

Role in the flow: `build` starts it at the folder that is built; it comes back here for every
base and component. Everything that changes objects is in other modules; here is the order of
kustomize. Source: kustomize api/internal/target/kusttarget, api/internal/accumulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitwright.render.kustomize import (
    fieldspecs,
    generators,
    load,
    openapi,
    origins,
    patches,
    plugins,
    replacements,
    transform_meta,
    variables,
)
from gitwright.render.kustomize.documents import Documents
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import Configuration, FieldSpec
from gitwright.render.kustomize.load import Kustomization
from gitwright.render.kustomize.model import (
    Context,
    Gvk,
    PatchEntry,
    Resource,
    ResourceList,
    copy_value,
    loaded,
)
from gitwright.render.kustomize.origins import Origin
from gitwright.render.kustomize.remote import is_remote
from gitwright.render.kustomize.schema import Lookup
from gitwright.render.kustomize.scopes import Scopes
from gitwright.render.kustomize.tree import Root, Tree
from gitwright.render.kustomize.variables import Variable

MAX_DEPTH = 60
"""Folders on the way from the one that is built to the deepest base (S3)."""
MAX_FOLDERS = 5_000
"""Folders with a kustomization that one build looks into (S3)."""
MAX_OBJECTS = 40_000
"""Objects that one build may load, those of a base once for each use (S10)."""
_VALIDATED = "validated-by"
_LABELS = FieldSpec(Gvk("", "", ""), "metadata/labels", create=True)


@dataclass(slots=True)
class Shared:
    """What is one for the whole build.

    Args:
        tree: the files.
        schema: merge keys of kinds.
        scopes: which kinds are cluster-scoped.
        metadata: `buildMetadata` of the kustomization that is built.
        warnings: for the user; grows.
        schema_set: whether a kustomization's `openapi` gave the schema.
        folders: folders looked into, each time.
        objects: objects loaded, each time.
        files: folder -> its kustomization file, read once.
        documents: objects of files, read once.
    """

    tree: Tree
    schema: Lookup
    scopes: Scopes
    metadata: Sequence[str]
    warnings: list[str]
    schema_set: bool = False
    folders: int = 0
    objects: int = 0
    files: dict[str, Kustomization] = field(default_factory=dict)
    documents: Documents = field(default_factory=Documents)


@dataclass(slots=True)
class Accumulated:
    """Objects with the rules and variables that came with them."""

    resources: ResourceList = field(default_factory=ResourceList)
    configuration: Configuration = field(default_factory=Configuration)
    variables: dict[str, Variable] = field(default_factory=dict)

    def take(self, other: Accumulated) -> None:
        """Add what a base has accumulated.

        Raises:
            KustomizeError: an object or a variable is there already, or rules contradict each other.
        """
        self.resources.extend(other.resources)
        self.configuration = self.configuration.merge(other.configuration)
        for variable in other.variables.values():
            variables.add(self.variables, variable)


def use_schema(shared: Shared, root: Root, file: Kustomization) -> None:
    """Take the schema that a kustomization's `openapi` names; the first one counts for the whole build.

    Raises:
        KustomizeError: the file is missing, or the version is none that is built in.
    """
    field = {name: text for name, text in file.mapping("openapi").items() if isinstance(text, str)}
    content = None
    if "path" in field:
        try:
            content = root.read(field["path"])
        except FileNotFoundError:
            raise KustomizeError(
                f"open {root.shown(field['path'])}: no such file or directory",
                place=file.path,
                detail="field 'openapi.path'",
            ) from None
    if not field or shared.schema_set:
        return
    shared.schema = openapi.lookup(field, content, file.path)
    shared.schema_set = content is not None or bool(field.get("version"))
    if content is not None:
        shared.scopes.add(openapi.cluster_scoped(content))


class Target:
    """One kustomization on its way.

    Args:
        root: its folder.
        kustomization: its file.
        shared: the build.
        origin: where it is, when origins are asked for.
    """

    def __init__(
        self, root: Root, kustomization: Kustomization, shared: Shared, origin: Origin | None
    ) -> None:
        self._root = root
        self._file = kustomization
        self._shared = shared
        self._origin = origin
        self._place = kustomization.path
        for warning in kustomization.warnings:
            if warning not in shared.warnings:
                shared.warnings.append(warning)

    @property
    def _context(self) -> Context:
        # Made anew each time: a base may have given the schema since.
        shared = self._shared
        return Context(self._root, self._place, shared.schema, shared.scopes, shared.warnings)

    def accumulate(self, into: Accumulated) -> Accumulated:
        """Add what the kustomization is made of, and transform all of it.

        Args:
            into: empty; for a component what its parent has so far.

        Raises:
            KustomizeError: it does not build.
        """
        file = self._file
        into = self._resources(into, file.items("resources"), "resources")
        into.configuration = into.configuration.merge(self._configuration())
        crds = [(path, self._read(path, "crds")) for path in file.items("crds")]
        if crds:
            found = openapi.crd_configuration(crds)
            into.configuration = into.configuration.merge(fieldspecs.read(found, self._place))
        self._generate(into)
        for index, path in enumerate(file.items("components")):
            into = self._folder(into, path, f"components[{index}]", component=True)
        self._transform(into)
        self._validate(into)
        variables.collect(file.items("vars"), into.resources, into.variables, self._place)
        return into

    def _read(self, path: str, where: str) -> bytes:
        try:
            return self._root.read(path)
        except FileNotFoundError:
            raise KustomizeError(
                f"open {self._root.shown(path)}: no such file or directory",
                place=self._place,
                detail=f"field '{where}'",
            ) from None

    def _configuration(self) -> Configuration:
        found = fieldspecs.default()
        own = Configuration()
        for path in self._file.items("configurations"):
            content = load.configuration(self._read(path, "configurations"), self._root.shown(path))
            if not isinstance(content, dict):
                raise KustomizeError(
                    "a configuration must be a mapping",
                    place=self._root.shown(path),
                    detail="field 'configurations'",
                )
            own = own.merge(fieldspecs.read(content, self._root.shown(path)))
        return found.merge(own)

    # Resources, bases and components.

    def _resources(self, into: Accumulated, paths: Sequence[str], where: str) -> Accumulated:
        for index, path in enumerate(paths):
            at = f"{where}[{index}]"
            objects = self._objects(path, at)
            if objects is None:
                into = self._folder(into, path, at, component=False)
                continue
            for resource in objects:
                if self._origin is not None:
                    origins.mark(resource, self._origin.append(path))
                into.resources.append(resource)
        return into

    def _objects(self, path: str, at: str) -> list[Resource] | None:
        """Read a file's objects; None when the path is that of a folder."""
        if path.lower().startswith(("http://", "https://")):
            raise self._remote(path, at)
        located = self._locate(path, at)
        tree = self._shared.tree
        if not path or tree.is_dir(located):
            return None
        try:
            objects = self._shared.documents.objects(tree, located)
        except FileNotFoundError:
            if is_remote(path):
                raise self._remote(path, at) from None
            raise KustomizeError(
                f"accumulating resources: accumulation err='accumulating resources from '{path}': "
                f"open {self._root.shown(path)}: no such file or directory'",
                place=self._place,
                detail=f"field '{at}': expected a file of objects or a folder with a kustomization",
            ) from None
        self._shared.objects += len(objects)
        if self._shared.objects > MAX_OBJECTS:
            raise KustomizeError(
                f"more than {MAX_OBJECTS} objects in one build", place=self._place, detail=f"field '{at}'"
            )
        return [loaded(obj, self._shared.scopes, located) for obj in objects]

    def _locate(self, path: str, at: str) -> str:
        try:
            return self._root.locate(path)
        except KustomizeError as error:
            if is_remote(path):
                raise self._remote(path, at) from None
            raise KustomizeError(error.message, place=self._place, detail=f"field '{at}'") from None

    def _remote(self, path: str, at: str) -> KustomizeError:
        return KustomizeError(
            f"accumulating resources: '{path}' is not in the tree",
            place=self._place,
            detail=f"field '{at}'",
            hint="remote bases are off: vendor them into the repository",
        )

    def _folder(self, into: Accumulated, path: str, at: str, *, component: bool) -> Accumulated:
        root = self._enter(path, at)
        file = self._shared.files.get(root.path)
        if file is None:
            file = self._shared.files[root.path] = load.kustomization(root)
        use_schema(self._shared, root, file)
        expected = "kind '{}' for path '{}' but got '{}'" if component else "kind != '{}' for path '{}'"
        if (file.kind == load.COMPONENT) is not component:
            raise KustomizeError(
                "expected " + expected.format(load.COMPONENT, root.shown(), file.kind),
                place=self._place,
                detail=f"field '{at}'",
                hint="list it under resources" if component else "list it under components",
            )
        origin = self._origin.append(path) if self._origin is not None else None
        below = Target(root, file, self._shared, origin)
        if component:
            # A component transforms what its parent has; nothing is added to that afterwards.
            found = below.accumulate(into)
            into = Accumulated()
        else:
            found = below.accumulate(Accumulated())
        into.take(found)
        return into

    def _enter(self, path: str, at: str) -> Root:
        located = self._locate(path, at)
        if not path:
            raise KustomizeError("new root cannot be empty", place=self._place, detail=f"field '{at}'")
        if not self._shared.tree.is_dir(located):
            if is_remote(path):
                raise self._remote(path, at)
            raise KustomizeError(
                f"must build at directory: '{self._root.shown(path)}': not a directory or not there",
                place=self._place,
                detail=f"field '{at}': expected a folder with a kustomization",
            )
        visited = (*self._root.parents, self._root.path)
        for other in visited:
            if not located or other == located or other.startswith(f"{located}/"):
                roots = f"candidate root '{located or '.'}' contains visited root '{other or '.'}'"
                raise KustomizeError(
                    f"cycle detected: {roots}",
                    place=self._place,
                    detail=f"field '{at}'",
                )
        self._shared.folders += 1
        if len(visited) > MAX_DEPTH or self._shared.folders > MAX_FOLDERS:
            limit = f"{MAX_DEPTH} deep" if len(visited) > MAX_DEPTH else f"{MAX_FOLDERS}"
            raise KustomizeError(
                f"too many kustomizations: more than {limit}", place=self._place, detail=f"field '{at}'"
            )
        return Root(self._shared.tree, located, visited)

    # Generators.

    def _generate(self, into: Accumulated) -> None:
        file = self._file
        shared = file.content.get("generatorOptions")
        made: list[tuple[Resource, Origin | None, str]] = []
        for name, kind in (("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")):
            origin = self._builtin(f"{kind}Generator")
            for index, entry in enumerate(file.items(name)):
                place = f"{self._place}: {name}[{index}]"
                resource = generators.generate(
                    "Secret" if kind == "Secret" else "ConfigMap",
                    entry,
                    shared,
                    self._root,
                    self._shared.scopes,
                    place,
                )
                made.append((resource, origin, place))
        if file.items("helmCharts"):
            raise plugins.helm(self._place)
        for resource, origin in plugins.generators(self._plugins("generators"), self._context):
            made.append((resource, origin, f"{self._place}: generators"))
        for resource, origin, place in made:
            origins.mark_new(resource, origin)
            generators.absorb(into.resources, resource, place)

    def _builtin(self, kind: str) -> Origin | None:
        return self._origin.builtin(self._file.name, kind) if self._origin is not None else None

    def _plugins(self, name: str) -> list[Resource]:
        """Give the configurations of plugins, from files, folders and in place."""
        found = Accumulated()
        files = []
        for text in self._file.items(name):
            inline = plugins.inline(text)
            if inline is None:
                files.append(text)
                continue
            for obj in inline:
                resource = Resource(obj, self._shared.scopes, self._place)
                if self._origin is not None:
                    origins.mark(resource, self._origin.append(self._file.name))
                found.resources.append(resource)
        return self._resources(found, files, name).resources.items

    # Transformers.

    def _transform(self, into: Accumulated) -> None:
        steps = [*self._builtins(into), *self._external("transformers")]
        for origin, step in steps:
            step(into.resources)
            origins.transformed(into.resources, origin)
            if any(resource.deleted for resource in into.resources):
                into.resources.items = [one for one in into.resources if not one.deleted]
                into.resources.changed()

    def _external(self, name: str) -> list[tuple[Origin | None, plugins.Step]]:
        return plugins.transformers(self._plugins(name), self._context)

    def _validate(self, into: Accumulated) -> None:
        for _, step in self._external("validators"):
            before = [copy_value(resource.obj) for resource in into.resources]
            step(into.resources)
            if [_unvalidated(resource.obj) for resource in into.resources] != before:
                raise KustomizeError(
                    "validator shouldn't modify the resource map",
                    place=self._place,
                    detail="field 'validators'",
                )

    def _builtins(self, into: Accumulated) -> list[tuple[Origin | None, plugins.Step]]:
        """Give the transformers of the file's fields in kustomize's order."""
        file, config = self._file, into.configuration
        steps: list[tuple[Origin | None, plugins.Step]] = []

        def add(kind: str, step: Callable[[ResourceList], None]) -> None:
            steps.append((self._builtin(kind), step))

        strategic = [
            PatchEntry("strategic", path=text, where=f"patchesStrategicMerge[{index}]")
            for index, text in enumerate(file.items("patchesStrategicMerge"))
        ]
        if strategic:
            add("PatchStrategicMergeTransformer", self._patching(strategic))
        for entry in self._entries("patches", "patch"):
            add("PatchTransformer", self._patching([entry]))
        namespace, prefix, suffix = (file.text(name) for name in ("namespace", "namePrefix", "nameSuffix"))
        if namespace:
            inside = config.of("namespace")
            add("NamespaceTransformer", lambda found: transform_meta.set_namespace(found, namespace, inside))
        if prefix:
            before = config.of("namePrefix")
            add("PrefixTransformer", lambda found: transform_meta.rename(found, prefix, before, "prefix"))
        if suffix:
            behind = config.of("nameSuffix")
            add("SuffixTransformer", lambda found: transform_meta.rename(found, suffix, behind, "suffix"))
        for entries, specs in self._labels(config):
            add("LabelTransformer", _setting(entries, specs))
        annotations = file.mapping("commonAnnotations")
        if annotations:
            add("AnnotationsTransformer", _setting(annotations, config.of("commonAnnotations")))
        for entry in self._entries("patchesJson6902", "json6902"):
            add("PatchJson6902Transformer", self._patching([entry]))
        self._counted(config, add)
        return steps

    def _counted(
        self, config: Configuration, add: Callable[[str, Callable[[ResourceList], None]], None]
    ) -> None:
        """Add the transformers of replicas, images and replacements."""
        file, place = self._file, self._place

        def replicas(entry: Mapping[str, Any], at: str) -> plugins.Step:
            name, count, specs = entry.get("name") or "", entry.get("count") or 0, config.of("replicas")
            return lambda found: transform_meta.set_replicas(found, name, count, specs, at)

        for index, entry in enumerate(file.items("replicas")):
            add("ReplicaCountTransformer", replicas(entry, f"{place}: replicas[{index}]"))
        images = file.items("images")
        if images:
            specs = config.of("images")
            at = f"{place}: images"
            add("ImageTagTransformer", lambda found: transform_meta.set_images(found, images, specs, at))
            for _ in images[1:]:
                add("ImageTagTransformer", _nothing)
        entries = file.items("replacements")
        if entries:
            loaded = replacements.entries(entries, self._root, place)
            add("ReplacementTransformer", lambda found: replacements.apply(found, loaded))

    def _entries(self, name: str, kind: Any) -> list[PatchEntry]:
        return [
            PatchEntry(
                kind,
                entry.get("path") or "",
                entry.get("patch") or "",
                entry.get("target"),
                entry.get("options") or {},
                f"{name}[{index}]",
            )
            for index, entry in enumerate(self._file.items(name))
        ]

    def _patching(self, entries: list[PatchEntry]) -> plugins.Step:
        return lambda found: patches.apply_all(found, entries, self._context)

    def _labels(self, config: Configuration) -> list[tuple[Mapping[str, str], list[FieldSpec]]]:
        """Give the labels to set and where; kustomize counts commonLabels even when there are none."""
        found = []
        file = self._file
        for label in file.items("labels"):
            specs = fieldspecs.merge(
                [fieldspecs.spec(one) for one in label.get("fields") or ()], config.of("labels")
            )
            if label.get("includeSelectors"):
                specs = fieldspecs.merge(specs, config.of("commonLabels"))
            else:
                if label.get("includeTemplates"):
                    specs = fieldspecs.merge(specs, config.of("templateLabels"))
                specs = fieldspecs.merge(specs, [_LABELS])
            found.append((label.get("pairs") or {}, specs))
        common = file.mapping("commonLabels")
        if found or common:
            found.append((common, config.of("commonLabels")))
        return found


def _unvalidated(obj: dict[str, Any]) -> dict[str, Any]:
    """Give an object without the one label that a validator may add, where there was none."""
    metadata = obj.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(labels, dict) or set(labels) != {_VALIDATED}:
        return obj
    return {**obj, "metadata": {name: value for name, value in metadata.items() if name != "labels"}}


def _setting(entries: Mapping[str, str], specs: Sequence[FieldSpec]) -> plugins.Step:
    return lambda found: transform_meta.set_entries(found, entries, specs)


def _nothing(found: ResourceList) -> None:
    """Stand for an image entry that was applied together with the first one."""
