"""The built-in ValueAddTransformer: a text put into fields or into file paths in them.

Role in the flow: used by `plugins` alone. Source: kustomize api/filters/valueadd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gitwright.render.kustomize import load, selectors, transform_meta, typed
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import split_path
from gitwright.render.kustomize.model import Resource, ResourceList, text_of
from gitwright.render.kustomize.tree import Root
from gitwright.render.kustomize.typed import INT, STRING, List, Struct

TARGET = Struct("Target", {"selector": load.SELECTOR, "fieldPath": STRING, "filePathPosition": INT})
_TARGETS = Struct("Targets", {"targets": List(TARGET)})


def prepare(config: Mapping[str, Any], root: Root, place: str) -> Callable[[ResourceList], None]:
    """Read the configuration and give the transformer.

    Raises:
        KustomizeError: there is no target, or one has no field.
    """
    value = (config.get("value") or "").strip() or root.path.rpartition("/")[2]
    targets = list(config.get("targets") or ())
    path = config.get("targetFilePath")
    if path:
        try:
            content = load.configuration(root.read(path), root.shown(path))
        except FileNotFoundError:
            raise KustomizeError(f"open {root.shown(path)}: no such file or directory", place=place) from None
        targets += (
            typed.decode(content, _TARGETS, root.shown(path), strict=False, texts=True).get("targets") or ()
        )
    if not targets:
        raise KustomizeError("must specify at least one target", place=place)
    for target in targets:
        if not target.get("fieldPath"):
            raise KustomizeError("fieldPath cannot be empty", place=place)
        if (target.get("filePathPosition") or 0) < 0:
            raise KustomizeError("value of FilePathPosition cannot be negative", place=place)
    return lambda resources: _apply(resources, value, targets)


def _apply(resources: ResourceList, value: str, targets: list[Mapping[str, Any]]) -> None:
    for target in targets:
        selector = target.get("selector")
        chosen = resources.items
        if selector is not None:
            matcher = selectors.compile(selector)
            chosen = [resource for resource in resources if matcher.matches(resource)]
        if target["fieldPath"] == "metadata/namespace":
            transform_meta.put_namespace(chosen, value)
        else:
            for resource in chosen:
                _put(resource, target["fieldPath"], value, target.get("filePathPosition") or 0)
        resources.changed()


def _put(resource: Resource, path: str, value: str, position: int) -> None:
    names = path.split("/") if not path.startswith("/") else ["", *split_path(path, "/")]
    names = split_path(path, "/") if "\\" in path else names
    container = resource.obj
    parts = [name for name in (part.strip() for part in names) if name]
    for name in parts[:-1]:
        below = container.get(name)
        if below is None:
            below = container[name] = {}
        if not isinstance(below, dict):
            raise KustomizeError("wrong node kind: expected MappingNode", place=resource.source, detail=path)
        container = below
    old = container.get(parts[-1])
    if isinstance(old, dict | list):
        raise KustomizeError("wrong node kind: expected ScalarNode", place=resource.source, detail=path)
    container[parts[-1]] = _inserted(text_of(old), position - 1, value) if position > 0 else value


def _inserted(path: str, position: int, part: str) -> str:
    """Put a part into a file path; what is too far goes to the end."""
    rooted = "/" if path.startswith("/") else ""
    parts = [name for name in path.split("/") if name]
    parts.insert(min(position, len(parts)), part)
    return rooted + "/".join(parts)
