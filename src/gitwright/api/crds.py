"""The CustomResourceDefinitions, made from the types.

Role in the flow: `install` applies what this gives, and a test holds it equal to the
CRDs that Flux ships, descriptions apart. It knows types, no cluster.

Flux's CRDs carry the annotation `controller-gen.kubebuilder.io/version`, the version of
the generator that wrote them. Ours are not written by it, so they do not.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from gitwright.api import meta
from gitwright.api.base import Value
from gitwright.api.kinds import KINDS, Kind
from gitwright.core.objects import JSON

_SCALARS: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer"}
_API_VERSION = "Version of the schema that this object is written in, such as `{}`."
_KIND = "Kind of the object: `{}`."


def crds(labels: Mapping[str, str] | None = None) -> list[JSON]:
    """Give the CRDs of all kinds; see `crd`."""
    return [crd(kind, labels) for kind in KINDS]


def crd(kind: Kind, labels: Mapping[str, str] | None = None) -> JSON:
    """Give the CRD of a kind.

    Args:
        kind: the kind.
        labels: labels of the CRD object itself.
    """
    metadata: JSON = {
        "name": f"{kind.plural}.{kind.gvk.group}",
        # Descriptions hold `${...}` examples that a Kustomization must not substitute.
        "annotations": {meta.SUBSTITUTE: meta.DISABLED},
    }
    if labels:
        metadata["labels"] = dict(labels)
    version = {
        "name": kind.gvk.version,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            {"name": column.name, "jsonPath": column.path, "type": column.type} for column in kind.columns
        ],
        "schema": {"openAPIV3Schema": _root(kind)},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.gvk.group,
            "names": {
                "categories": list(kind.categories),
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "shortNames": list(kind.short_names),
                "singular": kind.singular,
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _root(kind: Kind) -> JSON:
    hints = typing.get_type_hints(kind.type, include_extras=True)
    return {
        "type": "object",
        "description": kind.about,
        "properties": {
            "apiVersion": {"type": "string", "description": _API_VERSION.format(kind.gvk.api_version)},
            "kind": {"type": "string", "description": _KIND.format(kind.name)},
            "metadata": {"type": "object"},
            "spec": schema(hints["spec"]),
            "status": schema(hints["status"]),
        },
    }


def schema(hint: Any) -> JSON:
    """Give the OpenAPI schema of a type as the API server takes it.

    Args:
        hint: a string, integer, boolean, Literal, tuple of one type, dict of strings,
            `Value` type, any of them annotated with `doc` or united with None.

    Raises:
        TypeError: the type has no place in a CRD.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *notes = get_args(hint)
        described = schema(inner)
        for note in notes:
            described |= _limits(note)
        return described
    if origin in (Union, types.UnionType):
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return schema(inner)
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    if origin is tuple:
        item, rest = get_args(hint)
        if rest is not Ellipsis:
            raise TypeError(f"{hint} is not a list of one type")
        return {"type": "array", "items": schema(item)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema(get_args(hint)[1])}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if isinstance(hint, type) and issubclass(hint, Value):
        return _object(hint)
    raise TypeError(f"{hint} has no place in a CRD")


def _object(cls: type[Value]) -> JSON:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = msgspec.structs.fields(cls)
    described: JSON = {
        "type": "object",
        "description": _first_paragraph(cls),
        "properties": {
            field.encode_name: schema(hints[field.name])
            for field in sorted(fields, key=lambda field: field.encode_name)
        },
    }
    required = sorted(field.encode_name for field in fields if field.required)
    if required:
        described["required"] = required
    return described


def _limits(note: Any) -> JSON:
    if not isinstance(note, msgspec.Meta):
        return {}
    given: JSON = {
        "description": note.description,
        "pattern": note.pattern,
        "minLength": note.min_length,
        "maxLength": note.max_length,
        "minimum": note.ge,
    }
    found = {name: value for name, value in given.items() if value is not None}
    return found | dict(note.extra_json_schema or {})


def _first_paragraph(cls: type) -> str:
    return " ".join((cls.__doc__ or "").partition("\n\n")[0].split())
