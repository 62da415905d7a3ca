"""Schemas of the user's: `openapi.path` and `crds`.

Role in the flow: turns such files into a table of merge keys for one build, and into field
specs. Nothing is kept between builds. Source: kustomize kyaml/openapi,
api/internal/accumulator/loadconfigfromcrds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitwright.core.objects import JSON
from gitwright.formats import yaml
from gitwright.render.kustomize import schema
from gitwright.render.kustomize.errors import KustomizeError

VERSION = "v1.21.2"
_PREFIX = "#/definitions/"
_KINDS = "x-kubernetes-group-version-kind"


def lookup(field: Mapping[str, str], content: bytes | None, place: str) -> schema.Lookup:
    """Give what a build knows of kinds.

    Args:
        field: the kustomization's `openapi`.
        content: the file that `openapi.path` names.
        place: the kustomization, for messages.

    Raises:
        KustomizeError: the version is not built in, the schema is no schema, or both are given.
    """
    if content is None:
        version = field.get("version", "")
        if version and version != VERSION:
            raise KustomizeError(
                "the specified OpenAPI version is not built in",
                place=place,
                detail=f"field 'openapi.version': expected {VERSION}",
            )
        return schema.built_in()
    if "version" in field:
        raise KustomizeError(
            "builtin version and custom schema provided, cannot use both",
            place=place,
            detail="field 'openapi': expected `version` or `path`",
        )
    definitions = _mapping(_document(content, place).get("definitions"))
    numbers = {name: number for number, name in enumerate(definitions)}
    kinds: dict[str, int] = {}
    for name, definition in definitions.items():
        entries = definition.get(_KINDS) if isinstance(definition, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            found = _type(entry)
            if found is not None:
                kinds[f"{found[0]} {found[1]}"] = numbers[name]
    return schema.Table([_reduced(definition, numbers) for definition in definitions.values()], kinds)


def cluster_scoped(content: bytes) -> frozenset[tuple[str, str]]:
    """Give apiVersion and kind of what a schema's paths show to be cluster-scoped."""
    scopes: dict[tuple[str, str], bool] = {}
    for path, methods in _mapping(_document(content, "").get("paths")).items():
        get = _mapping(methods).get("get")
        found = _type(_mapping(get).get(_KINDS))
        if found is None:
            continue
        if "namespaces/{namespace}" in path:
            scopes[found] = True
        else:
            scopes.setdefault(found, False)
    return frozenset(kind for kind, namespaced in scopes.items() if not namespaced)


def _document(content: bytes, place: str) -> JSON:
    try:
        documents = yaml.parse(content, place)
    except yaml.YamlError as error:
        raise KustomizeError(
            f"invalid schema file: {error.message}", place=error.place or place, detail=error.detail
        ) from None
    value = documents[0].value if documents else None
    if not isinstance(value, dict):
        raise KustomizeError(
            "invalid schema file", place=place, detail="expected a mapping with `definitions`"
        )
    return value


def _mapping(value: Any) -> JSON:
    return value if isinstance(value, dict) else {}


def _type(entry: Any) -> tuple[str, str] | None:
    if not isinstance(entry, dict):
        return None
    group, version, kind = (str(entry.get(name) or "") for name in ("group", "version", "kind"))
    return (f"{group}/{version}" if group else version), kind


def _reduced(definition: Any, numbers: Mapping[str, int]) -> Any:
    """Bring a schema into the form of the built-in table; see tools/mergekeys."""
    if not isinstance(definition, dict):
        return -1
    reference = definition.get("$ref")
    if isinstance(reference, str) and reference:
        return numbers.get(reference.removeprefix(_PREFIX), -1)
    node: JSON = {}
    properties = _mapping(definition.get("properties"))
    if properties:
        node["p"] = {name: _reduced(value, numbers) for name, value in properties.items()}
    more = definition.get("additionalProperties")
    if isinstance(more, dict):
        node["m"] = _reduced(more, numbers)
    if definition.get("type") in ("array", ["array"]) and isinstance(definition.get("items"), dict):
        node["a"] = _reduced(definition["items"], numbers)
    strategies = definition.get("x-kubernetes-patch-strategy")
    if isinstance(strategies, str) and "merge" in strategies.split(","):
        many, one = (
            definition.get(name) for name in ("x-kubernetes-list-map-keys", "x-kubernetes-patch-merge-key")
        )
        node["k"] = many if isinstance(many, list) else [one] if isinstance(one, str) else []
    return node or -1


def crd_configuration(files: Sequence[tuple[str, bytes]]) -> JSON:
    """Give the field specs that the files of `crds` make.

    Args:
        files: path and content of each: definitions as openapi-gen writes them, by type name.

    Returns:
        The same shape as a file of `configurations`.

    Raises:
        KustomizeError: a file is no such thing.
    """
    found: JSON = {}
    for path, content in files:
        try:
            documents = yaml.parse(content, path)
        except yaml.YamlError as error:
            raise KustomizeError(
                f"unable to parse open API definition from '{path}': {error.message}",
                place=error.place or path,
            ) from None
        types = documents[0].value if documents else None
        if not isinstance(types, dict):
            raise KustomizeError(
                f"unable to parse open API definition from '{path}'",
                place=path,
                detail="expected a mapping of type names to definitions",
            )
        for name in types:
            properties = _properties(types, name)
            if all(field in properties for field in ("kind", "apiVersion", "metadata")):
                _load(found, name.rpartition(".")[2], types, name, (), (name,))
    return found


def _properties(types: JSON, name: str) -> JSON:
    definition = _mapping(types.get(name))
    found = next((value for key, value in definition.items() if key.casefold() == "schema"), None)
    return _mapping(_mapping(found).get("properties"))


def _load(
    into: JSON, kind: str, types: JSON, name: str, path: tuple[str, ...], parents: tuple[str, ...]
) -> None:
    for field, given in _properties(types, name).items():
        schema_of = _mapping(given)
        here = (*path, field)
        spec = {"kind": kind, "path": "/".join(here)}
        for mark, where in (
            ("x-kubernetes-annotation", "commonAnnotations"),
            ("x-kubernetes-label-selector", "commonLabels"),
            ("x-kubernetes-identity", "namePrefix"),
        ):
            if isinstance(schema_of.get(mark), str):
                into.setdefault(where, []).append(dict(spec))
        version = schema_of.get("x-kubernetes-object-ref-api-version")
        referred = schema_of.get("x-kubernetes-object-ref-kind")
        if isinstance(version, str) and isinstance(referred, str):
            key = schema_of.get("x-kubernetes-object-ref-name-key")
            below = "/".join((*here, key if isinstance(key, str) else "name"))
            into.setdefault("nameReference", []).append(
                {"kind": referred, "version": version, "fieldSpecs": [{"kind": kind, "path": below}]}
            )
        reference = schema_of.get("$ref")
        if isinstance(reference, str) and reference in types:
            if reference in parents:
                raise KustomizeError(
                    f"type '{reference}' contains itself", detail="expected definitions without circles"
                )
            _load(into, kind, types, reference, here, (*parents, reference))
