"""References by name: where an object names another that has got a new name, the new one is written.

Role in the flow: once, after everything that renames. Objects are found by an index over
their former names, the fields by one walk over each object along all paths of its kind at
once, so that the work grows with the objects and not with their square.
Source: kustomize api/filters/nameref, api/internal/accumulator/namereferencetransformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import ByKind, References, steps_of
from gitwright.render.kustomize.model import NO_NAMESPACE, Gvk, Id, Resource, ResourceList, text_of, untyped


@dataclass(slots=True)
class _Node:
    """A step on the paths of a kind: what is below, and the kinds that a field here names."""

    below: dict[tuple[str, bool], _Node] = field(default_factory=dict)
    targets: list[tuple[str, Gvk]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Candidate:
    """An object that had another name, with what is asked about it, computed once."""

    order: int
    resource: Resource
    id: Id
    formers: list[Id]
    name: str
    namespace: str


def update(resources: ResourceList, references: References) -> None:
    """Write the present names of objects wherever others name them by former ones.

    Args:
        resources: the objects, changed in place.
        references: the kinds that are named and the fields that do so, in order.

    Raises:
        KustomizeError: several objects could be meant, or a field is not what the path says.
    """
    index = _Index(resources)
    trees: dict[Gvk, _Node] = {}
    fields = ByKind((spec, target) for target, specs in references for spec in specs)
    for resource in resources:
        gvk = resource.original.gvk
        tree = trees.get(gvk)
        if tree is None:
            tree = trees[gvk] = _tree(fields, gvk)
        if tree.below:
            _Referrer(resource, index).walk(resource.obj, tree)


def _tree(fields: ByKind[Gvk], gvk: Gvk) -> _Node:
    root = _Node()
    for spec, target in fields.of(gvk):
        node = root
        for step in steps_of(spec.path):
            node = node.below.setdefault(step, _Node())
        node.targets.append((spec.path, target))
    return root


class _Index:
    """The objects by former name, then by the namespace they are in now."""

    def __init__(self, resources: ResourceList) -> None:
        self._by_name: dict[str, dict[str, list[_Candidate]]] = {}
        self._by_origin: dict[str, dict[str, list[_Candidate]]] = {}
        # First namespace -> namespaces in which objects that came from there are now.
        self._moved: dict[str, set[str]] = {}
        for order, resource in enumerate(resources):
            identity = resource.id
            self._moved.setdefault(resource.original.namespace, set()).add(identity.namespace)
            if not resource.former:
                continue
            formers = resource.formers
            candidate = _Candidate(order, resource, identity, formers, identity.name, resource.namespace)
            for name in dict.fromkeys(former.name for former in formers):
                groups = self._by_name.setdefault(name, {})
                groups.setdefault(identity.namespace, []).append(candidate)
                origins = self._by_origin.setdefault(name, {})
                origins.setdefault(formers[0].namespace, []).append(candidate)

    def within(self, name: str, namespace: str, namespaces: Sequence[str] | None) -> list[_Candidate]:
        """Give the objects that had a name and were in a namespace first.

        If no object at all was, those that are there now.

        Args:
            name: the former name.
            namespace: as it is written beside the name.
            namespaces: effective ones that count, no one twice; None for all.
        """
        if namespace == NO_NAMESPACE:
            return []
        now = self._moved.get(namespace, set())
        if now if namespaces is None else any(one in now for one in namespaces):
            found = self._by_origin.get(name, {}).get(namespace, [])
            return found if namespaces is None else [one for one in found if one.id.namespace in namespaces]
        if namespaces is not None and namespace not in namespaces:
            return []
        return self._by_name.get(name, {}).get(namespace, [])

    def named(self, name: str, namespaces: Sequence[str] | None) -> list[_Candidate]:
        """Give the objects that had a name and are now in one of the namespaces, in their order.

        Args:
            name: the former name.
            namespaces: effective ones, no one twice; None for all.
        """
        groups = self._by_name.get(name)
        if not groups:
            return []
        if namespaces is None:
            found = [candidate for group in groups.values() for candidate in group]
        else:
            found = [candidate for namespace in namespaces for candidate in groups.get(namespace, ())]
        found.sort(key=lambda candidate: candidate.order)
        return found


class _Referrer:
    """One object that may name others."""

    def __init__(self, resource: Resource, index: _Index) -> None:
        self._resource = resource
        self._index = index
        self._id = resource.id
        self._role: Gvk | None = None
        self._role_known = False
        # Which namespaces the objects it names may be in; None for any.
        self._reach: tuple[str, ...] | None = None
        if not self._id.cluster_scoped:
            more = _subject_namespaces(resource)
            self._reach = tuple(dict.fromkeys((NO_NAMESPACE, self._id.namespace, *more)))

    def walk(self, node: Any, tree: _Node) -> None:
        """Go along all paths that the object has."""
        if node is None:
            return
        if isinstance(node, list):
            for item in node:
                self.walk(item, tree)
            return
        if not isinstance(node, dict):
            paths = _paths(tree)
            raise self._error("expected sequence or mapping node", paths[0] if paths else "")
        for (name, is_list), below in tree.below.items():
            if name not in node:
                if not name:
                    raise self._error("cannot set or create an empty field name", _paths(tree)[0])
                continue
            if is_list and node[name] is None:
                node[name] = []
            for path, target in below.targets:
                self._field(node, name, path, target)
            if below.below:
                self.walk(node[name], below)

    def _field(self, container: dict[str, Any], name: str, path: str, target: Gvk) -> None:
        value = container[name]
        if value is None:
            return
        try:
            if isinstance(value, dict):
                self._mapping(value, path, target)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, dict):
                        self._mapping(item, path, target)
                    elif isinstance(item, list):
                        raise KustomizeError("is expected to be either a string or a map of string")
                    elif item is not None:
                        value[index] = self._scalar(item, path, target)
            else:
                container[name] = self._scalar(value, path, target)
        except KustomizeError as error:
            raise self._error(error.message, path, error.detail) from None

    def _scalar(self, value: Any, path: str, target: Gvk) -> Any:
        old = text_of(value)
        found = self._select(old, self._index.named(old, self._reach), path, target, both=False)
        return value if found is None or found.name == old else untyped(value, found.name)

    def _mapping(self, value: dict[str, Any], path: str, target: Gvk) -> None:
        if "name" not in value:
            raise KustomizeError("path config error; no 'name' field in node")
        old = text_of(value["name"])
        if "namespace" in value:
            candidates = self._index.within(old, text_of(value["namespace"]), self._reach)
        else:
            candidates = self._index.named(old, self._reach)
        found = self._select(old, candidates, path, target, both=True)
        if found is None or (found.name == old and not found.namespace):
            return
        value["name"] = untyped(value["name"], found.name)
        if found.namespace:
            value["namespace"] = found.namespace

    def _select(
        self, old: str, candidates: list[_Candidate], path: str, target: Gvk, *, both: bool
    ) -> _Candidate | None:
        found = [one for one in candidates if any(former.gvk.selected_by(target) for former in one.formers)]
        if found and path.endswith("roleRef/name"):
            role = self._role_ref()
            if role is not None:
                found = [one for one in found if any(former.gvk.selected_by(role) for former in one.formers)]
        if not self._id.cluster_scoped:
            found = [one for one in found if self._visible(one)]
        if len(found) == 1:
            return found[0]
        found = [one for one in found if _same_context(one.resource, self._resource, loose=True)]
        if len(found) > 1:
            found = [one for one in found if _same_context(one.resource, self._resource, loose=False)]
        if not found:
            return None
        first = found[0]
        if all(one.name == first.name and (not both or one.namespace == first.namespace) for one in found):
            return first
        raise KustomizeError(
            f"found multiple possible referrals: {', '.join(str(one.id) for one in found)}",
            detail=f"'{old}' could be any of them",
        )

    def _visible(self, candidate: _Candidate) -> bool:
        return (
            candidate.id.cluster_scoped
            # Subjects reach into other namespaces, as far as those are written in the objects there.
            or (candidate.id.gvk.kind == "ServiceAccount" and bool(candidate.namespace))
            or candidate.id.namespace == self._id.namespace
        )

    def _role_ref(self) -> Gvk | None:
        if not self._role_known:
            self._role_known = True
            role = self._resource.obj.get("roleRef")
            if isinstance(role, dict) and role.get("apiGroup") is not None and role.get("kind") is not None:
                self._role = Gvk(text_of(role["apiGroup"]), "", text_of(role["kind"]))
        return self._role

    def _error(self, message: str, path: str, detail: str = "") -> KustomizeError:
        return KustomizeError(
            f"updating name reference in '{path}' field of '{self._id}': {message}",
            place=self._resource.source,
            detail=detail,
        )


def _paths(tree: _Node) -> list[str]:
    found = [path for path, _ in tree.targets]
    for below in tree.below.values():
        found += _paths(below)
    return found


def _subject_namespaces(resource: Resource) -> list[str]:
    """Give the namespaces of the service accounts that a role binding names."""
    if resource.kind != "RoleBinding":
        return []
    subjects = resource.obj.get("subjects")
    found = []
    for subject in subjects if isinstance(subjects, list) else ():
        if not isinstance(subject, dict) or subject.get("kind") != "ServiceAccount":
            continue
        if "namespace" in subject:
            namespace = subject["namespace"]
            if not isinstance(namespace, str):
                raise KustomizeError(
                    f'Invalid Input: namespace is blank for resource "{resource.id}"', place=resource.source
                )
            found.append(namespace)
    return found


def _same_context(one: Resource, other: Resource, *, loose: bool) -> bool:
    """Tell whether two objects got the same prefixes and suffixes, from the last one back."""
    return all(
        (loose and (not mine or not theirs)) or _same_end(mine, theirs)
        for mine, theirs in ((one.prefixes, other.prefixes), (one.suffixes, other.suffixes))
    )


def _same_end(one: list[str], other: list[str]) -> bool:
    shorter, longer = sorted((one, other), key=len)
    if not shorter:
        return not longer
    return longer[-len(shorter) :] == shorter
