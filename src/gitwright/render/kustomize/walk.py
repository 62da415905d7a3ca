"""Going through an object along a field spec.

Role in the flow: labels, prefixes, namespaces, images, references and variables all reach
their fields here. A path does not tell maps from lists: at a list it goes on in each item.
Source: kustomize api/filters/fieldspec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import FieldSpec, Steps, steps_of
from gitwright.render.kustomize.model import Resource

Make = Literal["", "map", "scalar"]
"""What is made at the end of a path that may be created; empty makes nothing anywhere."""
Action = Callable[[dict[str, Any], str], None]
"""Called with the mapping and the name of the field in it."""


def visit(resource: Resource, spec: FieldSpec, action: Action, make: Make = "") -> None:
    """Call an action on every field of an object that a field spec means.

    Args:
        resource: the object; the caller has made sure that its kind is meant.
        spec: the field.
        action: what to do; the field is there, its value may be null.
        make: what the field is made of where the spec says to create it.

    Raises:
        KustomizeError: the path leads through something that is no map and no list.
    """
    try:
        _walk(resource.obj, steps_of(spec.path), 0, action, make if spec.create else "")
    except KustomizeError as error:
        raise KustomizeError(
            f"considering field '{spec.path}' of object {resource.id}: {error.message}",
            place=error.place or resource.source,
            detail=error.detail,
        ) from None


def _walk(node: Any, steps: Steps, index: int, action: Action, make: Make) -> None:
    if node is None:
        return
    if isinstance(node, list):
        for item in node:
            _walk(item, steps, index, action, make)
        return
    if not isinstance(node, dict):
        raise KustomizeError("expected sequence or mapping node", detail=f"at '{steps[index][0]}'")
    name, is_list = steps[index]
    if not name:
        raise KustomizeError("cannot set or create an empty field name")
    last = index + 1 == len(steps)
    if name not in node:
        if not make or is_list:
            return
        node[name] = "" if last and make == "scalar" else {}
    elif node[name] is None:
        if is_list:
            node[name] = []
        elif make:
            node[name] = "" if last and make == "scalar" else {}
    if last:
        action(node, name)
    else:
        _walk(node[name], steps, index + 1, action, make)
