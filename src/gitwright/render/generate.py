"""The kustomization file that Flux builds from: the repository's own, or a generated one, and the spec.

Role in the flow: before the vetting walk, which takes what this gives as the content of the
build's root. It looks at names in a tree and at parsed YAML; it reads no file.
Source: spec/flux-v2.md 3.4; fluxcd/pkg kustomize (generator).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitwright.artifact.tree import Tree
from gitwright.core.objects import JSON
from gitwright.formats import scalars
from gitwright.render.errors import BuildError
from gitwright.render.paths import Places, is_local

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""The names of a kustomization file, in the order in which kustomize looks for them."""
API_VERSION = "kustomize.config.k8s.io/v1beta1"
_PLACEHOLDER = "_placeholder"
# Every field of kustomize's Kustomization (5.8). Go matches them whatever their case.
FIELDS = (
    *("apiVersion", "kind", "metadata", "openapi", "namePrefix", "nameSuffix", "namespace"),
    *("commonLabels", "labels", "commonAnnotations", "patchesStrategicMerge", "patchesJson6902", "patches"),
    *("images", "imageTags", "replacements", "replicas", "vars", "sortOptions", "resources", "components"),
    *("crds", "bases", "configMapGenerator", "secretGenerator", "helmGlobals", "helmCharts"),
    *("helmChartInflationGenerator", "generatorOptions", "configurations", "generators", "transformers"),
    *("validators", "buildMetadata"),
)
_CANONICAL = {name.casefold(): name for name in FIELDS}
# Fields of the structs below that name files or decide which ones are read.
_ENTRY_FIELDS = {
    name.casefold(): name
    for name in (
        "path",
        "patch",
        "target",
        "options",
        "source",
        "targets",
        "files",
        "envs",
        "env",
        "literals",
    )
}
# Where Go's decoding of the root file, which knows its types, takes a number for a string.
_STRINGS = frozenset(
    {"apiVersion", "kind", "namePrefix", "nameSuffix", "namespace", "name", "behavior", "env", "type"}
)
_STRINGS |= {"newName", "newTag", "digest", "tagSuffix"}
_STRING_LISTS = frozenset({"resources", "bases", "components", "crds", "configurations", "generators"})
_STRING_LISTS |= {
    "transformers",
    "validators",
    "buildMetadata",
    "patchesStrategicMerge",
    "files",
    "envs",
    "literals",
}
_STRING_MAPS = frozenset({"commonLabels", "commonAnnotations", "pairs", "labels", "annotations"})
_STRUCT_LISTS = frozenset({"images", "labels", "replicas", "configMapGenerator", "secretGenerator"})
_ENTRIES = ("patches", "patchesJson6902", "replacements", "configMapGenerator", "secretGenerator")


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What of a Kustomization's spec decides the build.

    Args:
        path: the folder to build, from the root of the tree; `..` stops at the root.
        target_namespace: namespace of every object, or empty.
        name_prefix: put before every name, or empty.
        name_suffix: put after every name, or empty.
        patches: items of `spec.patches`: `patch` and maybe `target`.
        images: items of `spec.images`: `name` and any of `newName`, `newTag`, `digest`.
        components: folders of components, relative to `path`.
        ignore_missing_components: whether a component that is not there is left out.
        build_metadata: replaces the file's own list when not empty.
    """

    path: str = ""
    target_namespace: str = ""
    name_prefix: str = ""
    name_suffix: str = ""
    patches: tuple[JSON, ...] = ()
    images: tuple[JSON, ...] = ()
    components: tuple[str, ...] = ()
    ignore_missing_components: bool = False
    build_metadata: tuple[str, ...] = ()

    def digest(self) -> str:
        """Give a digest of everything that it says, hexadecimal."""
        values = [getattr(self, name) for name in self.__slots__]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Generated:
    """The root's kustomization file as it will be built.

    Args:
        name: its name in the folder.
        content: what it says, fields in kustomize's own spelling.
        created: whether the folder had none.
        warnings: what was left out.
    """

    name: str
    content: JSON
    created: bool
    warnings: tuple[str, ...] = ()


def kustomization_names(tree: Tree, directory: str) -> list[str]:
    """Give which names of a kustomization file a directory has, in kustomize's order."""
    prefix = f"{directory}/" if directory else ""
    return [name for name in NAMES if tree.file(prefix + name) is not None]


def canonical(content: Mapping[str, Any]) -> tuple[JSON, list[str]]:
    """Give a kustomization with its fields in kustomize's spelling, and the names that are no fields.

    Go's JSON decoding takes `Resources` for `resources`: what is vetted must be what is built.

    Raises:
        BuildError: a field is given twice in two spellings.
    """
    found: JSON = {}
    unknown = []
    for name, value in content.items():
        known = _CANONICAL.get(name.casefold())
        if known is None:
            unknown.append(name)
        field = known or name
        if field in found:
            raise BuildError(f"invalid Kustomization: field {field!r} is given twice")
        found[field] = value
    for field in _ENTRIES:
        if isinstance(found.get(field), list):
            found[field] = [_entry(item) for item in found[field]]
    return found, unknown


def _entry(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    found: JSON = {}
    for name, value in item.items():
        field: str = _ENTRY_FIELDS.get(str(name).casefold(), str(name))
        if field in found:
            raise BuildError(f"invalid Kustomization: field {field!r} is given twice")
        found[field] = value
    return found


def _coerced(content: JSON) -> JSON:
    """Turn numbers and booleans into strings where Flux's typed decoding of the root does."""
    found: JSON = {}
    for name, value in content.items():
        if name in _STRINGS:
            found[name] = _text(value)
        elif name in _STRING_LISTS and isinstance(value, list):
            found[name] = [_text(item) for item in value]
        elif name in _STRING_MAPS and isinstance(value, dict):
            found[name] = {key: _text(item) for key, item in value.items()}
        elif name in _STRUCT_LISTS and isinstance(value, list):
            found[name] = [_coerced(item) if isinstance(item, dict) else item for item in value]
        else:
            found[name] = value
    return found


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return scalars.float32_text(value)
    return str(value) if isinstance(value, int) else value


def generate(tree: Tree, places: Places, directory: str, content: JSON | None, spec: BuildSpec) -> Generated:
    """Give the kustomization file of the build's root.

    Args:
        tree: the files.
        places: resolves paths and keeps count of what was looked at.
        directory: the folder, resolved, from the root of the tree.
        content: the folder's own kustomization, parsed; None when it has none.
        spec: what to merge into it.

    Raises:
        BuildError: a component is not local, or a field has the wrong type.
    """
    warnings: list[str] = []
    if content is None:
        name, merged = NAMES[0], _scanned(tree, directory)
    else:
        name = kustomization_names(tree, directory)[0]
        merged, unknown = canonical(content)
        # Flux decodes into kustomize's struct and writes that, so unknown fields vanish here.
        for field in unknown:
            merged.pop(field)
            warnings.append(f"{name}: unknown field {field!r} is ignored")
        merged = _coerced(merged)
        if not merged.get("resources"):
            merged["buildMetadata"] = ["originAnnotations"]
    _merge(merged, spec)
    components = [*_list(merged, "components"), *_components(places, directory, spec)]
    if components:
        merged["components"] = components
    head = {"apiVersion": API_VERSION, "kind": "Kustomization"}
    return Generated(name, {**head, **merged}, content is None, tuple(warnings))


def _scanned(tree: Tree, directory: str) -> JSON:
    """List what Flux's walk finds in a folder without a kustomization file."""
    found: list[str] = []
    pending = [directory]
    while pending:
        here = pending.pop()
        below = []
        for name, kind in tree.list(here):
            path = f"{here}/{name}" if here else name
            relative = "./" + (path[len(directory) + 1 :] if directory else path)
            if kind == "dir" and kustomization_names(tree, path):
                found.append(relative)
            elif kind == "dir":
                below.append(path)
            elif kind == "file" and name.rpartition(".")[2] in ("yaml", "yml") and "." in name:
                # A link is passed by: Flux's artifacts hold none.
                found.append(relative)
        pending += below
    if not found:
        # An empty kustomization is an error to kustomize; this one builds nothing, and prunes all.
        return {"namespace": _PLACEHOLDER}
    return {"resources": sorted(found, key=lambda path: path.split("/"))}


def _merge(merged: JSON, spec: BuildSpec) -> None:
    for field, value in (
        ("namespace", spec.target_namespace),
        ("namePrefix", spec.name_prefix),
        ("nameSuffix", spec.name_suffix),
    ):
        if value:
            merged[field] = value
    if spec.patches:
        merged["patches"] = [*_list(merged, "patches"), *map(_patch, spec.patches)]
    if spec.images:
        merged["images"] = _images(_list(merged, "images"), spec.images)
    # kubectl sorts by kind unless told otherwise; Flux keeps the order of the resources.
    merged["sortOptions"] = merged.get("sortOptions") or {"order": "fifo"}
    if spec.build_metadata:
        merged["buildMetadata"] = list(spec.build_metadata)


def _patch(patch: Mapping[str, Any]) -> JSON:
    target = patch.get("target")
    wanted: JSON = {"patch": patch.get("patch", "")}
    if target is not None:
        wanted["target"] = {name: value for name, value in target.items() if value}
    return wanted


def _images(existing: list[Any], images: tuple[JSON, ...]) -> list[Any]:
    merged = [dict(image) if isinstance(image, dict) else image for image in existing]
    for image in images:
        wanted = {name: image[name] for name in ("name", "newName", "newTag", "digest") if image.get(name)}
        same = (item for item in merged if isinstance(item, dict) and item.get("name") == wanted.get("name"))
        found = next(same, None)
        if found is None:
            merged.append(wanted)
            continue
        if "newName" in wanted:
            found["newName"] = wanted["newName"]
        if "newTag" in wanted or "digest" in wanted:
            # Tag and digest choose the version together: a digest left over would win over a new tag.
            for field in ("newTag", "digest"):
                found.pop(field, None)
                if field in wanted:
                    found[field] = wanted[field]
    return merged


def _components(places: Places, directory: str, spec: BuildSpec) -> list[str]:
    wanted = []
    for component in spec.components:
        if not is_local(component):
            raise BuildError(f"component path '{component}' must be local and relative")
        if spec.ignore_missing_components and not places.exists(directory, component):
            continue
        wanted.append(component)
    return wanted


def _list(merged: JSON, field: str) -> list[Any]:
    value = merged.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BuildError(f"invalid Kustomization: {field} must be a list")
    return value
