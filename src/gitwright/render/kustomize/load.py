"""Kustomization files and resource files: from bytes to checked values.

Role in the flow: what `accumulate` works on comes from here: the one kustomization file of a
folder with its types checked and its old fields moved, and the objects of a YAML text.
Source: kustomize api/types/kustomization, api/resource/factory, kyaml/kio.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any

from gitwright.core.objects import JSON
from gitwright.formats import yaml
from gitwright.render.kustomize import typed
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import FIELD_SPEC
from gitwright.render.kustomize.model import text_of
from gitwright.render.kustomize.tree import Root
from gitwright.render.kustomize.typed import ANY, BOOL, INT, STRING, STRING_MAP, STRINGS, List, Struct, Type

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_GROUP = "kustomize.config.k8s.io"
KUSTOMIZATION, COMPONENT = "Kustomization", "Component"
_VERSIONS = {KUSTOMIZATION: f"{_GROUP}/v1beta1", COMPONENT: f"{_GROUP}/v1alpha1"}

_ID: dict[str, Type] = dict.fromkeys(("group", "version", "kind", "name", "namespace"), STRING)
SELECTOR = Struct("Selector", {**_ID, "annotationSelector": STRING, "labelSelector": STRING})
_OPTIONS = Struct("PatchArgs", {"allowNameChange": BOOL, "allowKindChange": BOOL})
PATCH = Struct("Patch", {"path": STRING, "patch": STRING, "target": SELECTOR, "options": _OPTIONS})
IMAGE = Struct("Image", dict.fromkeys(("name", "newName", "tagSuffix", "newTag", "digest"), STRING))
REPLICA = Struct("Replica", {"name": STRING, "count": INT})
_FIELD_OPTIONS = Struct(
    "FieldOptions", {"delimiter": STRING, "index": INT, "encoding": STRING, "create": BOOL}
)
_TARGET = Struct(
    "TargetSelector",
    {
        "select": SELECTOR,
        "reject": List(SELECTOR),
        "fieldPaths": STRINGS,
        "options": _FIELD_OPTIONS,
    },
)
_SOURCE = Struct("SourceSelector", {**_ID, "fieldPath": STRING, "options": _FIELD_OPTIONS})
REPLACEMENT = Struct(
    "Replacement",
    {"path": STRING, "source": _SOURCE, "targets": List(_TARGET), "sourceValue": STRING},
)
GENERATOR_OPTIONS = Struct(
    "GeneratorOptions",
    {
        "labels": STRING_MAP,
        "annotations": STRING_MAP,
        "disableNameSuffixHash": BOOL,
        "immutable": BOOL,
    },
)
_GENERATOR: dict[str, Type] = {
    "namespace": STRING,
    "name": STRING,
    "behavior": STRING,
    "literals": STRINGS,
    "files": STRINGS,
    "envs": STRINGS,
    "env": STRING,
    "options": GENERATOR_OPTIONS,
}
CONFIG_MAP = Struct("ConfigMapArgs", _GENERATOR)
SECRET = Struct("SecretArgs", {**_GENERATOR, "type": STRING})
METADATA = Struct(
    "ObjectMeta",
    {"name": STRING, "namespace": STRING, "labels": STRING_MAP, "annotations": STRING_MAP},
)
_VAR = Struct(
    "Var",
    {
        "name": STRING,
        "objref": Struct("Target", {"apiVersion": STRING, **_ID}),
        "fieldref": Struct("FieldSelector", {"fieldPath": STRING}),
    },
)
_LABEL = Struct(
    "Label",
    {
        "pairs": STRING_MAP,
        "includeSelectors": BOOL,
        "includeTemplates": BOOL,
        "fields": List(FIELD_SPEC),
    },
)
_SORT = Struct(
    "SortOptions",
    {
        "order": STRING,
        "legacySortOptions": Struct("LegacySortOptions", {"orderFirst": STRINGS, "orderLast": STRINGS}),
    },
)
_FIELDS = Struct(
    KUSTOMIZATION,
    {
        "kind": STRING,
        "apiVersion": STRING,
        "metadata": METADATA,
        "openapi": STRING_MAP,
        "namePrefix": STRING,
        "nameSuffix": STRING,
        "namespace": STRING,
        "commonLabels": STRING_MAP,
        "labels": List(_LABEL),
        "commonAnnotations": STRING_MAP,
        "patchesStrategicMerge": STRINGS,
        "patchesJson6902": List(PATCH),
        "patches": List(PATCH),
        "images": List(IMAGE),
        "imageTags": List(IMAGE),
        "replacements": List(REPLACEMENT),
        "replicas": List(REPLICA),
        "vars": List(_VAR),
        "sortOptions": _SORT,
        "resources": STRINGS,
        "components": STRINGS,
        "crds": STRINGS,
        "bases": STRINGS,
        "configMapGenerator": List(CONFIG_MAP),
        "secretGenerator": List(SECRET),
        "helmGlobals": typed.Map(ANY),
        "helmCharts": List(ANY),
        "helmChartInflationGenerator": List(ANY),
        "generatorOptions": GENERATOR_OPTIONS,
        "configurations": STRINGS,
        "generators": STRINGS,
        "transformers": STRINGS,
        "validators": STRINGS,
        "buildMetadata": STRINGS,
    },
)
_DEPRECATED = {
    "bases": "resources",
    "commonLabels": "labels",
    "imageTags": "images",
    "patchesJson6902": "patches",
    "patchesStrategicMerge": "patches",
    "vars": "replacements",
}


@dataclass(frozen=True, slots=True)
class Kustomization:
    """A kustomization file, checked, old fields moved to the new ones.

    Args:
        content: its fields.
        name: the file's name in its folder.
        path: the file from the root of the tree.
        warnings: what kustomize would warn of.
    """

    content: JSON
    name: str
    path: str
    warnings: tuple[str, ...]

    @property
    def kind(self) -> str:
        """`Kustomization` or `Component`."""
        return str(self.content["kind"])

    def text(self, field: str) -> str:
        """Give a string field; empty when it is not given."""
        return str(self.content.get(field) or "")

    def items(self, field: str) -> list[Any]:
        """Give a list field; empty when it is not given."""
        found = self.content.get(field)
        return found if isinstance(found, list) else []

    def mapping(self, field: str) -> dict[str, Any]:
        """Give a mapping field; empty when it is not given."""
        found = self.content.get(field)
        return found if isinstance(found, dict) else {}


def kustomization(root: Root) -> Kustomization:
    """Read the kustomization file of a folder.

    Raises:
        KustomizeError: there is none or more than one, it is no YAML, a field is unknown or of a
            wrong type, or there is nothing in it.
    """
    found = []
    for name in NAMES:
        try:
            found.append((name, root.read(name)))
        except FileNotFoundError:
            continue
    if not found:
        raise KustomizeError(
            "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' "
            f"in directory '{root.shown()}'",
            place=root.shown(),
        )
    if len(found) > 1:
        raise KustomizeError(
            f"Found multiple kustomization files under: {root.shown()}",
            place=root.shown(),
            detail=", ".join(name for name, _ in found),
            hint="keep one of them",
        )
    name, content = found[0]
    return _understood(content, name, root.shown(name))


def _understood(content: bytes, name: str, path: str) -> Kustomization:
    value = configuration(content, path, "invalid Kustomization")
    if not isinstance(value, dict):
        raise KustomizeError(
            "invalid Kustomization: json: cannot unmarshal into Go value of type types.Kustomization",
            place=path,
            detail="expected a mapping",
        )
    fields = typed.decode(value, _FIELDS, path, prefix="invalid Kustomization")
    warnings = tuple(
        f"{path}: '{old}' is deprecated. Please use '{new}' instead."
        for old, new in _DEPRECATED.items()
        if old in fields
    )
    _move(fields)
    if not any(key not in ("kind", "apiVersion") and value != "" for key, value in fields.items()):
        raise KustomizeError("kustomization.yaml is empty", place=path)
    _enforce(fields, path)
    return Kustomization(fields, name, path, warnings)


def configuration(content: bytes, path: str, prefix: str = "") -> Any:
    """Read YAML as sigs.k8s.io/yaml does: the first document, None when there is nothing.

    Raises:
        KustomizeError: it is no YAML.
    """
    try:
        documents = yaml.parse(content, path)
    except yaml.YamlError as error:
        message = f"{prefix}: {error.message}" if prefix else error.message
        raise KustomizeError(message, place=error.place or path, detail=error.detail) from None
    if not documents or documents[0].value is None:
        return {}
    return documents[0].value


def _move(fields: JSON) -> None:
    fields["kind"] = fields.get("kind") or KUSTOMIZATION
    fields["apiVersion"] = fields.get("apiVersion") or _VERSIONS.get(fields["kind"], "")
    for old, new in (("bases", "resources"), ("imageTags", "images")):
        moved = fields.pop(old, None)
        if moved:
            fields[new] = [*fields.get(new, ()), *moved]
    for name in ("configMapGenerator", "secretGenerator"):
        for entry in fields.get(name, ()):
            env = entry.pop("env", "")
            if env:
                entry["envs"] = [*entry.get("envs", ()), env]
    charts = fields.pop("helmChartInflationGenerator", None)
    if charts:
        fields["helmCharts"] = [*fields.get("helmCharts", ()), *charts]


def _enforce(fields: JSON, path: str) -> None:
    kind, version = fields["kind"], fields["apiVersion"]
    if kind not in _VERSIONS:
        raise KustomizeError(
            f"Failed to read kustomization file under {path}: kind should be Kustomization or Component",
            place=path,
            detail=f"field 'kind': found '{kind}'",
        )
    if version != _VERSIONS[kind]:
        raise KustomizeError(
            f"Failed to read kustomization file under {path}: apiVersion for {kind} should be "
            f"{_VERSIONS[kind]}",
            place=path,
            detail=f"field 'apiVersion': found '{version}'",
        )


# Of what stands between two separators only the first document is read.
_ENDED = re.compile(rb"(?<=\n)\.\.\.(?=[ \t\n]|\Z).*?(?=\n---[^\n]*\n|\Z)", re.DOTALL)
_SEPARATOR = re.compile(rb"\n---([^\n]*)(?=\n)")


def objects(content: bytes, name: str) -> list[JSON]:
    """Read the objects of a YAML text, lists of objects taken apart; all are private values.

    Args:
        content: any number of documents.
        name: the file, for messages.

    Raises:
        KustomizeError: it is no YAML, or an object has no kind or name.
    """
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
    if b"\n..." in content:
        content = _ENDED.sub(b"", content)
    for found in _SEPARATOR.finditer(content):
        rest = found[1].strip()
        if rest and not rest.startswith(b"#"):
            raise KustomizeError(
                f"invalid document separator: ---{found[1].decode(errors='replace')}", place=name
            )
    try:
        documents = yaml.parse(content, name, kyaml=True)
    except yaml.YamlError as error:
        raise KustomizeError(
            f"MalformedYAMLError: {error.message}", place=error.place or name, detail=error.detail
        ) from None
    return _flattened(_unwrapped([document.value for document in documents]), name)


def _unwrapped(values: list[Any]) -> list[Any]:
    """Give the items of a `List` that is alone in its text."""
    if len(values) == 1 and isinstance(values[0], dict):
        value = values[0]
        if text_of(value.get("kind")) in ("List", "ResourceList") and (
            "items" in value or "functionConfig" in value
        ):
            items = value.get("items")
            return items if isinstance(items, list) else []
    return values


def _flattened(values: list[Any], name: str) -> list[JSON]:
    """Leave out empty ones, refuse bad ones, and put the items of lists behind the rest."""
    pending = deque(_checked(values, name))
    found = []
    while pending:
        value = pending.popleft()
        kind = text_of(value.get("kind"))
        if not kind.endswith("List") or "items" not in value:
            found.append(value)
            continue
        items = value["items"]
        if items is None:
            continue
        if not isinstance(items, list):
            raise KustomizeError(
                f"expected array in {kind}/items, but found {type(items).__name__}", place=name
            )
        for item in items:
            pending.extend(_checked(_unwrapped([item]), name))
    return found


def _checked(values: list[Any], name: str) -> list[JSON]:
    found = []
    for number, value in enumerate(values, 1):
        if value is None or value in ({}, []):
            continue
        where = f"object {number}" if len(values) > 1 else ""
        if not isinstance(value, dict):
            raise KustomizeError(
                "missing Resource metadata", place=name, detail=where or "expected a mapping"
            )
        check_metadata(value, name, where)
        found.append(value)
    return found


def check_metadata(value: JSON, name: str, where: str = "") -> None:
    """Refuse an object without kind or name; a list needs no name.

    Raises:
        KustomizeError: one of them is missing.
    """
    kind = text_of(value.get("kind"))
    metadata = value.get("metadata")
    given = text_of(metadata.get("name")) if isinstance(metadata, dict) else ""
    if not kind:
        raise KustomizeError(
            f"missing kind in object {{name: {given}}}" if given else "missing Resource metadata",
            place=name,
            detail=where,
            hint="every object needs apiVersion, kind and metadata.name",
        )
    if not given and not kind.endswith("List"):
        raise KustomizeError(f"missing metadata.name in object {{kind: {kind}}}", place=name, detail=where)
