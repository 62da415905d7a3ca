"""The way in: a folder of a tree, built.

Role in the flow: from files to objects in their final order, with warnings and the exact set
of what was read. It does no input or output of its own. Source: kustomize api/krusty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gitwright.core.objects import JSON
from gitwright.formats import scalars
from gitwright.render.kustomize import generators, load, namerefs, openapi, sort, variables
from gitwright.render.kustomize.accumulate import Accumulated, Shared, Target, use_schema
from gitwright.render.kustomize.documents import Documents, Remembered
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.model import (
    INTERNAL,
    ORIGIN,
    TRANSFORMATIONS,
    Resource,
    ResourceList,
    check_key,
    text_of,
    texts,
)
from gitwright.render.kustomize.origins import Origin
from gitwright.render.kustomize.scopes import Scopes
from gitwright.render.kustomize.tree import Files, Root, Tree

VERSION = "v5.8.1"
"""The kustomize whose results these are, as `buildMetadata: [managedByLabel]` names it."""
_LOCAL = "config.kubernetes.io/local-config"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gives.

    Args:
        objects: the objects in their order, each a private value.
        warnings: what a user should know although it builds.
        inputs: every path looked at, from the root of the tree, whether it was there or not.
    """

    objects: list[dict[str, Any]]
    warnings: tuple[str, ...]
    inputs: frozenset[str]


def build(files: Files, path: str, remembered: Remembered | None = None) -> Built:
    """Build the kustomization of a folder.

    Args:
        files: the tree; nothing outside of it is read.
        path: the folder, from the tree's root; empty for the root itself.
        remembered: objects of files that builds share; None to share nothing.

    Raises:
        KustomizeError: it does not build; file and field are named.
    """
    tree = Tree(files)
    warnings: list[str] = []
    located = Root(tree, "").locate(path)
    if not tree.is_dir(located):
        raise KustomizeError(f"must build at directory: not a valid directory: '{path}'", place=path)
    root = Root(tree, located)
    file = load.kustomization(root)
    metadata = file.items("buildMetadata")
    shared = Shared(tree, openapi.lookup({}, None, file.path), Scopes(), metadata, warnings)
    shared.documents = Documents(remembered)
    use_schema(shared, root, file)
    origin = Origin() if metadata else None
    try:
        found = Target(root, file, shared, origin).accumulate(Accumulated())
        resources = _finish(found, warnings)
    except RecursionError:
        raise KustomizeError("the kustomization nests too deeply", place=file.path) from None
    sort.sort(resources, file.content.get("sortOptions"))
    objects = [scalars.plain(_clean(resource, metadata)) for resource in resources]
    return Built(objects, tuple(warnings), frozenset(tree.inputs))


def _finish(found: Accumulated, warnings: list[str]) -> ResourceList:
    """Do what is done once: hashes, references, variables, and leaving out local objects."""
    resources = found.resources
    generators.add_hashes(resources)
    namerefs.update(resources, found.configuration.references)
    variables.resolve(resources, found.variables, found.configuration.of("varReference"), warnings)
    for resource in resources:
        load.check_metadata(resource.obj, resource.source)
    kept = ResourceList()
    kept.items = [
        resource for resource in resources if text_of(resource.annotations.get(_LOCAL, "false")) == "false"
    ]
    return kept


def _clean(resource: Resource, metadata: list[str]) -> JSON:
    """Give the object as it leaves the build: no traces of it but those that are asked for."""
    obj = resource.obj
    holder = obj["metadata"]
    if "managedByLabel" in metadata:
        labels = holder.get("labels")
        if labels is not None and not isinstance(labels, dict):
            raise KustomizeError("labels must be a mapping", place=resource.source)
        holder["labels"] = {**(labels or {}), "app.kubernetes.io/managed-by": f"kustomize-{VERSION}"}
    if "annotations" not in holder:
        return obj
    gone = set(INTERNAL)
    if "originAnnotations" not in metadata:
        gone.add(ORIGIN)
    if "transformerAnnotations" not in metadata:
        gone.add(TRANSFORMATIONS)
    found = holder["annotations"]
    annotations = (
        {name: text for name, text in texts(found).items() if name not in gone}
        if isinstance(found, dict)
        else {}
    )
    for name in annotations:
        try:
            check_key(name)
        except KustomizeError as error:
            raise error.at(resource.source, f"annotations of {resource.id}") from None
    if annotations:
        holder["annotations"] = annotations
    else:
        del holder["annotations"]
    return obj
