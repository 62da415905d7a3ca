"""From built YAML to frozen manifests.

Role in the flow: after the child, on its text alone; run in a thread for its cost.
Source: spec/flux-v2.md 3.3 item 1 and 3.4; corpus/flux-recordings (substitution).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gitwright.core.objects import JSON, Manifest, gvk_of
from gitwright.formats import yaml
from gitwright.render.errors import BuildError
from gitwright.render.substitute import (
    ANNOTATION,
    DISABLED,
    Substitution,
    SubstitutionError,
    prepare,
    substitute,
)

_QUOTED = re.compile(r"(['`]).*\1", re.DOTALL)
_SEPARATOR = "---\n"
_KUSTOMIZE = "kustomize.config.k8s.io/"


def finish(text: str, substitution: Substitution | None) -> tuple[tuple[Manifest, ...], str]:
    """Substitute variables in built YAML, and freeze its objects.

    Args:
        text: what kustomize printed.
        substitution: the variables; None without postBuild.

    Returns:
        The manifests in kustomize's order, lists taken apart, kustomize's own kinds left
        out; and `sha256:` with the digest of the YAML after substitution.

    Raises:
        BuildError: an object lacks its apiVersion, kind or name.
        SubstitutionError: as `substitute`, naming the object.
        YamlError: the text is no YAML.
    """
    manifests: list[Manifest] = []
    total = hashlib.sha256()
    for index, part in enumerate(_documents(text)):
        resource = _parsed(part)
        if resource is None:
            continue
        _complete(resource)
        written = part
        if substitution is not None and _wanted(resource, substitution):
            resource, written = _substituted(resource, part, substitution)
        total.update((_SEPARATOR if index else "").encode() + written.encode())
        manifests.extend(Manifest.of(obj) for obj in _objects(resource))
    return tuple(manifests), f"sha256:{total.hexdigest()}"


def _documents(text: str) -> Iterator[str]:
    # Each document is a map at column 0, so a line of dashes can only stand between two.
    parts = text.split("\n" + _SEPARATOR)
    for index, part in enumerate(parts):
        yield part if index == len(parts) - 1 else part + "\n"


def _parsed(text: str) -> JSON | None:
    found = yaml.load_documents(text)
    return found[0] if found else None


def _complete(resource: Mapping[str, Any]) -> None:
    name = (resource.get("metadata") or {}).get("name")
    if name and resource.get("kind") and resource.get("apiVersion"):
        return
    if _is_list(resource) and resource.get("kind"):
        return
    # Only what identifies it: the rest of an object may be secret (S17).
    known = {"apiVersion": resource.get("apiVersion"), "kind": resource.get("kind"), "name": name}
    raise BuildError(f"failed to decode Kubernetes apiVersion, kind and name from: {known}")


def _wanted(resource: Mapping[str, Any], substitution: Substitution) -> bool:
    metadata = resource.get("metadata") or {}
    marks = ((metadata.get(field) or {}).get(ANNOTATION) for field in ("labels", "annotations"))
    return substitution.active and DISABLED not in marks


def _substituted(resource: JSON, text: str, substitution: Substitution) -> tuple[JSON, str]:
    try:
        variables = prepare(substitution)
        changed = substitute(text, variables, strict=substitution.strict)
    except SubstitutionError as error:
        message = f"{_failed_at(resource)}: envsubst error: {error.message}"
        raise SubstitutionError(message, hint=error.hint) from None
    if changed == text:
        return resource, text
    try:
        found = _parsed(changed)
    except yaml.YamlError as error:
        # What stands in quotes may be a part of a secret value.
        problem = _QUOTED.sub("...", error.message)
        message = f"{_failed_at(resource)}: envsubst error: YAMLToJSON: {problem}"
        raise SubstitutionError(message, hint="quote values that are no plain YAML") from None
    if found is None or not found.get("kind"):
        raise SubstitutionError(f"{_failed_at(resource)}: UnmarshalJSON: Object 'Kind' is missing")
    return found, yaml.dump(found)


def _failed_at(resource: Mapping[str, Any]) -> str:
    gvk = gvk_of(resource)
    name = (resource.get("metadata") or {}).get("name", "")
    kind = f"{gvk.kind or '[noKind]'}.{gvk.version or '[noVer]'}.{gvk.group or '[noGrp]'}"
    return f"post build failed for '{kind}/{name}'"


def _is_list(resource: Mapping[str, Any]) -> bool:
    return isinstance(resource.get("items"), list)


def _objects(resource: JSON) -> Iterator[JSON]:
    """Take lists apart and leave kustomize's own kinds out, as Flux reads a build."""
    if _is_list(resource):
        for item in resource["items"]:
            if isinstance(item, dict):
                _complete(item)
                yield from _objects(item)
    elif not str(resource.get("apiVersion")).startswith(_KUSTOMIZE):
        yield resource
