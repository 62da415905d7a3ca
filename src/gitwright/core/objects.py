"""Identity of Kubernetes objects, their order of application, and frozen manifests.

Role in the flow: every stage speaks of objects by `ObjectKey` (identity without
version, as an inventory does) and hands rendered objects on as `Manifest`, which
holds bytes so that nobody downstream can change what was planned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class GroupKind:
    """An API group and kind, such as `apps` and `Deployment`; the core group is empty."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


@dataclass(frozen=True, slots=True, order=True)
class GVK:
    """Group, version and kind of an object."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """The `apiVersion` field, such as `apps/v1` or `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_kind(self) -> GroupKind:
        """The same without the version."""
        return GroupKind(self.group, self.kind)

    @classmethod
    def parse(cls, api_version: str, kind: str) -> GVK:
        """Make one of the `apiVersion` and `kind` fields of an object."""
        group, _, version = api_version.rpartition("/")
        return cls(group, version, kind)

    def __str__(self) -> str:
        return f"{self.api_version}, Kind={self.kind}"


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Identity of an object in a cluster; `namespace` is empty for cluster-scoped ones.

    The version is left out because the same object is served in several, and an
    inventory must not lose it when a manifest moves from one to another.
    """

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def group_kind(self) -> GroupKind:
        """Group and kind of the object."""
        return GroupKind(self.group, self.kind)

    @property
    def subject(self) -> str:
        """The object as Flux names it in events and errors: `Kind/namespace/name`."""
        parts = (self.kind, self.namespace, self.name)
        return "/".join(part for part in parts if part)

    def __str__(self) -> str:
        return self.subject


def gvk_of(obj: Mapping[str, Any]) -> GVK:
    """Read group, version and kind from an object's own fields."""
    return GVK.parse(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))


def key_of(obj: Mapping[str, Any]) -> ObjectKey:
    """Read the identity of an object from its own fields."""
    gvk = gvk_of(obj)
    metadata = obj.get("metadata") or {}
    return ObjectKey(
        gvk.group, gvk.kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
    )


@dataclass(frozen=True, slots=True)
class Manifest:
    """One rendered object, frozen: its identity and its JSON.

    Args:
        gvk: group, version and kind.
        key: identity in the cluster.
        body: compact JSON of the whole object, keys sorted.
        digest: hexadecimal SHA-256 of `body`.
        origin: where it came from, for messages: a file, or empty.
    """

    gvk: GVK
    key: ObjectKey
    body: bytes
    digest: str
    origin: str = ""

    @classmethod
    def of(cls, obj: Mapping[str, Any], origin: str = "") -> Manifest:
        """Freeze an object; later changes to `obj` do not reach the manifest."""
        body = json.dumps(obj, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
        return cls(gvk_of(obj), key_of(obj), body, hashlib.sha256(body).hexdigest(), origin)

    def load(self) -> JSON:
        """Give a fresh, private copy of the object."""
        loaded: JSON = json.loads(self.body)
        return loaded


# Source: Flux, fluxcd/pkg ssa; spec/flux-v2.md section 3.3 (stages and kind order).
_FIRST = (
    "CustomResourceDefinition",
    "Namespace",
    "ClusterRole",
    "ClusterClass",
    "RuntimeClass",
    "PriorityClass",
    "StorageClass",
    "VolumeSnapshotClass",
    "IngressClass",
    "GatewayClass",
    "ClusterRoleBinding",
    "ResourceQuota",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
    "LimitRange",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
)
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_RANK = {kind: rank for rank, kind in enumerate(_FIRST)}
_MIDDLE = len(_FIRST)
_RANK.update({kind: _MIDDLE + 1 + rank for rank, kind in enumerate(_LAST)})


def apply_rank(key: ObjectKey) -> tuple[int, str, str, str, str]:
    """Give the sort key that puts objects in Flux's order of application.

    Known kinds first in a fixed order, webhooks last, everything else between
    them by group and kind; equals by namespace and name. Source: spec/flux-v2.md 3.3.
    """
    return (_RANK.get(key.kind, _MIDDLE), key.group, key.kind, key.namespace, key.name)


def inventory_id(key: ObjectKey) -> str:
    """Write an identity as Flux's inventory does: `namespace_name_group_kind`.

    Colons of RBAC names become `__`. Source: spec/flux-v2.md 3.3, cli-utils object format.
    """
    name = key.name.replace(":", "__") if key.group == "rbac.authorization.k8s.io" else key.name
    return f"{key.namespace}_{name}_{key.group}_{key.kind}"


def parse_inventory_id(text: str) -> ObjectKey:
    """Read an identity from Flux's inventory format.

    Raises:
        ValueError: the text does not have the four parts.
    """
    namespace, sep, rest = text.partition("_")
    rest, sep2, kind = rest.rpartition("_")
    name, sep3, group = rest.rpartition("_")
    if not (sep and sep2 and sep3 and name and kind):
        raise ValueError(f"inventory entry {text!r} is not of the form namespace_name_group_kind")
    if group == "rbac.authorization.k8s.io":
        name = name.replace("__", ":")
    return ObjectKey(group, kind, namespace, name)


def sort_manifests(manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Put manifests into the order of application."""
    return tuple(sorted(manifests, key=lambda manifest: apply_rank(manifest.key)))
