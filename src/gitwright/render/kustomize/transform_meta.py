"""Transformers of names, namespaces, labels, annotations, images and replicas.

Role in the flow: each takes the objects and its own part of a kustomization, the fields it
changes given as field specs, and changes the objects in place; each looks at every object a
fixed number of times. Source: kustomize api/filters and the built-in transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from gitwright.core.objects import JSON
from gitwright.formats import yaml
from gitwright.render.kustomize import regex
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import ByKind, FieldSpec
from gitwright.render.kustomize.model import Gvk, Resource, ResourceList, check_key, text_of, untyped
from gitwright.render.kustomize.walk import Action, visit

_NAME = "metadata/name"
_NAMESPACE = "metadata/namespace"
_META_NAMESPACE = FieldSpec(Gvk("", "", ""), _NAMESPACE, create=True)
_UNTOUCHED = (
    Gvk("", "", "CustomResourceDefinition"),
    Gvk("apiregistration.k8s.io", "", "APIService"),
    Gvk("", "", "Namespace"),
)
_PLAIN_IMAGE = re.compile(r"[A-Za-z0-9_./:@-]*\Z")
SubjectMode = Literal["defaultOnly", "allServiceAccounts", "none"]


class Chosen:
    """The field specs that mean an object."""

    def __init__(self, specs: Iterable[FieldSpec]) -> None:
        self._specs = ByKind((spec, None) for spec in specs)
        self._known: dict[Gvk, list[FieldSpec]] = {}

    def of(self, gvk: Gvk) -> list[FieldSpec]:
        """Give those that mean objects of a kind."""
        found = self._known.get(gvk)
        if found is None:
            found = self._known[gvk] = [spec for spec, _ in self._specs.of(gvk)]
        return found


def rename(
    resources: ResourceList, text: str, specs: Sequence[FieldSpec], where: Literal["prefix", "suffix"]
) -> None:
    """Put a prefix before names or a suffix behind them; definitions and Namespaces keep theirs."""
    chosen = Chosen(specs)

    def action(container: dict[str, Any], name: str) -> None:
        value = container[name]
        _scalar(value, name)
        shown = text_of(value)
        container[name] = untyped(value, text + shown if where == "prefix" else shown + text)

    for resource in resources:
        gvk = resource.original.gvk
        if any(gvk.selected_by(kind) for kind in _UNTOUCHED):
            continue
        for spec in chosen.of(gvk):
            if spec.path == _NAME and text:
                (resource.prefixes if where == "prefix" else resource.suffixes).extend(text.split(","))
                resource.remember()
            if spec.matches(resource.gvk):
                visit(resource, spec, action, "scalar")
    resources.changed()


def _scalar(value: Any, name: str) -> None:
    if isinstance(value, dict | list):
        kind = "MappingNode" if isinstance(value, dict) else "SequenceNode"
        raise KustomizeError(f"wrong node kind: expected ScalarNode but got {kind}", detail=f"at '{name}'")


def set_namespace(
    resources: ResourceList,
    namespace: str,
    specs: Sequence[FieldSpec],
    *,
    unset_only: bool = False,
    subjects: SubjectMode = "defaultOnly",
) -> None:
    """Put every object into a namespace, with the fields that must follow.

    Args:
        resources: the objects.
        namespace: the namespace.
        specs: further fields that hold a namespace; a Namespace object itself is renamed.
        unset_only: leave namespaces alone that are given already.
        subjects: which subjects of role bindings follow.

    Raises:
        KustomizeError: two objects have become one.
    """
    change = _NamespaceChange(namespace, specs, unset_only=unset_only, subjects=subjects)
    for resource in resources:
        resource.remember()
        change.apply(resource)
    resources.changed()
    _refuse_equal(resources)


def put_namespace(resources: Iterable[Resource], namespace: str) -> None:
    """Put objects into a namespace without keeping their former identity."""
    change = _NamespaceChange(namespace, (), unset_only=False, subjects="defaultOnly")
    for resource in resources:
        change.apply(resource)


class _NamespaceChange:
    def __init__(
        self, namespace: str, specs: Sequence[FieldSpec], *, unset_only: bool, subjects: SubjectMode
    ) -> None:
        self._namespace = namespace
        self._unset_only = unset_only
        self._subjects: SubjectMode = subjects
        self._chosen = Chosen(spec for spec in specs if spec.path != _NAMESPACE)

    def apply(self, resource: Resource) -> None:
        gvk = resource.gvk
        if not resource.scopes.cluster(gvk):
            visit(resource, _META_NAMESPACE, self._set, "scalar")
        binding = gvk.kind in ("RoleBinding", "ClusterRoleBinding")
        if binding:
            _set_subjects(resource, self._set, self._subjects)
        for spec in self._chosen.of(gvk):
            if spec.path == _NAME and resource.api_version != "v1":
                continue
            if binding and spec.path == "subjects/namespace" and spec.gvk.kind.endswith("RoleBinding"):
                continue
            visit(resource, spec, self._set, "scalar")

    def _set(self, container: dict[str, Any], name: str) -> None:
        value = container[name]
        if self._unset_only and text_of(value):
            return
        _scalar(value, name)
        container[name] = self._namespace


def _refuse_equal(resources: ResourceList) -> None:
    if len(resources.by_current()) == len(resources):
        return
    seen: dict[Any, Resource] = {}
    for resource in resources:
        other = seen.setdefault(resource.id, resource)
        if other is not resource:
            raise KustomizeError(
                f"namespace transformation produces ID conflict: {resource.id}",
                place=resource.source,
                detail=f"the other is of {other.source}",
            )


def _set_subjects(resource: Resource, action: Action, mode: SubjectMode) -> None:
    subjects = resource.obj.get("subjects")
    if mode == "none" or subjects is None:
        return
    if not isinstance(subjects, list):
        raise KustomizeError("setting namespace on (cluster)role binding subjects", place=resource.source)
    field, wanted = ("name", "default") if mode == "defaultOnly" else ("kind", "ServiceAccount")
    for subject in subjects:
        if subject is None:
            continue
        if not isinstance(subject, dict):
            raise KustomizeError(
                "setting namespace on (cluster)role binding subjects",
                place=resource.source,
                detail="each of 'subjects' must be a mapping",
            )
        if text_of(subject.get(field)) == wanted and not isinstance(subject.get(field), dict | list):
            subject.setdefault("namespace", None)
            action(subject, "namespace")


def set_entries(resources: ResourceList, entries: Mapping[str, str], specs: Sequence[FieldSpec]) -> None:
    """Set labels, annotations or selectors: each of the fields gets all the entries.

    Raises:
        KustomizeError: a field is there and is no mapping.
    """
    if not entries:
        return
    alone: dict[str, str] = {key: yaml.written(entries[key]) for key in sorted(entries)}
    nodes = alone
    obj: JSON = {}

    def action(container: dict[str, Any], name: str) -> None:
        value = container[name]
        if value is None:
            return
        if not isinstance(value, dict):
            kind = "SequenceNode" if isinstance(value, list) else "ScalarNode"
            raise KustomizeError(
                f"wrong node kind: expected MappingNode but got {kind}", detail=f"at '{name}'"
            )
        for key, node in nodes.items():
            if key not in value:
                check_key(key)
                value[key] = node
                continue
            old = value[key]
            if isinstance(old, yaml.Shared):
                if old is not node:
                    yaml.share(obj, old, entries[key])
            else:
                value[key] = yaml.styled(old, entries[key])

    chosen = Chosen(specs)
    for resource in resources:
        obj = resource.obj
        places = chosen.of(resource.gvk)
        # kustomize sets one node in all places of an object, so that they change together ever after.
        nodes = {key: yaml.shared(entries[key]) for key in alone} if len(places) > 1 else alone
        for spec in places:
            visit(resource, spec, action, "map")


def set_replicas(
    resources: ResourceList, name: str, count: int, specs: Sequence[FieldSpec], place: str
) -> None:
    """Set the number of replicas of the objects that have or had a name.

    Raises:
        KustomizeError: there is no such object.
    """

    def action(container: dict[str, Any], field: str) -> None:
        _scalar(container[field], field)
        container[field] = yaml.styled(container[field], count)

    found = False
    named = resources.by_name().get(name, ())
    for spec in specs:
        for resource in named:
            ids = [*resource.formers, resource.id]
            if any(known.name == name and spec.matches(known.gvk) for known in ids):
                found = True
                if spec.matches(resource.gvk):
                    visit(resource, spec, action, "scalar")
    if not found:
        kinds = " ".join(str(spec.gvk) for spec in specs)
        raise KustomizeError(
            f"resource with name {name} does not match a config with the following GVK [{kinds}]",
            place=place,
            hint=_nearest(name, resources, specs),
        )


def _nearest(name: str, resources: ResourceList, specs: Sequence[FieldSpec]) -> str:
    kinds = {spec.gvk.kind for spec in specs}
    names = sorted({resource.name for resource in resources if resource.kind in kinds})[:5]
    return f"there are: {', '.join(names)}" if names else ""


def set_images(
    resources: ResourceList, images: Sequence[Mapping[str, str]], specs: Sequence[FieldSpec], place: str
) -> None:
    """Change image names, tags and digests.

    Everywhere in `containers` and `initContainers`, however deep, and in the fields of the specs:
    an image in both is changed twice, which only `tagSuffix` shows.

    Raises:
        KustomizeError: an image is no string, or the name in an entry is no regular expression.
    """
    update = _updater(images, place)
    known: dict[str, str] = {}
    chosen = Chosen(specs)

    def once(container: dict[str, Any], name: str) -> None:
        cells.setdefault((id(container), name), [container, 0])[1] += 1

    for resource in resources:
        if resource.kind == "CustomResourceDefinition":
            continue
        cells: dict[tuple[int, str], list[Any]] = {}
        try:
            _containers(resource.obj, once)
        except KustomizeError as error:
            raise error.at(resource.source) from None
        for spec in chosen.of(resource.gvk):
            visit(resource, spec, once)
        for (_, name), (container, times) in cells.items():
            value = container[name]
            try:
                _scalar(value, name)
            except KustomizeError as error:
                raise error.at(resource.source, f"image of {resource.id}") from None
            before = text_of(value)
            key = f"{times} {before}"
            if key not in known:
                known[key] = update(before, times)
            if known[key] != before:
                container[name] = untyped(value, known[key])


def _containers(node: Any, action: Action) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, dict | list):
                _containers(value, action)
                if key in ("containers", "initContainers") and isinstance(value, list):
                    _images_of(value, action)
    elif isinstance(node, list):
        for item in node:
            if isinstance(item, dict | list):
                _containers(item, action)


def _images_of(containers: list[Any], action: Action) -> None:
    for container in containers:
        if isinstance(container, dict):
            if "image" in container:
                action(container, "image")
        elif container is not None:
            raise KustomizeError(
                "wrong node kind: expected MappingNode", detail="each of 'containers' must be a mapping"
            )


def _updater(images: Sequence[Mapping[str, str]], place: str) -> Callable[[str, int], str]:
    compiled = [(_image_test(entry.get("name") or "", place), entry) for entry in images]

    def update(value: str, times: int) -> str:
        for matches, entry in compiled:
            for _ in range(times):
                if matches(value):
                    value = _changed(value, entry)
        return value

    return update


def _image_test(name: str, place: str) -> Callable[[str], bool]:
    """Give the test whether an image is the one that an entry names, by a regular expression."""
    tail = r"(:[a-zA-Z0-9_.{}-]*)?(@sha256:[a-zA-Z0-9_.{}-]*)?"
    if _PLAIN_IMAGE.match(name):
        plain = re.compile(name + tail, re.ASCII)
        return lambda value: plain.fullmatch(value) is not None
    try:
        if "|" in name:
            return regex.compile(rf"(?s:.*)(?:^{name}{tail}$)(?s:.*)")
        return regex.compile(name + tail)
    except ValueError as error:
        raise KustomizeError(
            f"image name '{name}' is no regular expression: {error}", place=place, detail="field 'images'"
        ) from None


def _changed(value: str, entry: Mapping[str, str]) -> str:
    name, tag, digest = split_image(value)
    name = entry.get("newName") or name
    new_tag, new_digest = entry.get("newTag") or "", entry.get("digest") or ""
    if new_tag or new_digest:
        tag, digest = new_tag, new_digest
    elif entry.get("tagSuffix"):
        tag, digest = tag + entry["tagSuffix"], ""
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def split_image(image: str) -> tuple[str, str, str]:
    """Take an image apart: name, tag and digest, the last two may be empty."""
    slash = max(image.find("/"), 0)
    colon, at = image.find(":", slash), image.find("@", slash)
    if colon < 0 and at < 0:
        return image, "", ""
    if at >= 0 and (at < colon or colon < 0):
        return image[:at], "", image[at + 1 :]
    if at >= 0:
        return image[:colon], image[colon + 1 : at], image[at + 1 :]
    return image[:colon], image[colon + 1 :], ""
