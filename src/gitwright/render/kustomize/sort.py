"""The order in which objects leave a build.

Role in the flow: the last step. Without `sortOptions` it is kustomize's legacy order: what
others need first, then by kind and name. Source: kustomize SortOrderTransformer, kyaml/resid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.model import Gvk, Resource, ResourceList

_FIRST = (
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
)
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def _ranks(first: Sequence[str], last: Sequence[str]) -> dict[str, int]:
    ranks = {kind: index - len(first) for index, kind in enumerate(first)}
    ranks.update({kind: index + 1 for index, kind in enumerate(last)})
    return ranks


_RANKS = _ranks(_FIRST, _LAST)


def kind_rank(gvk: Gvk) -> tuple[int, str]:
    """Give the sort key of a kind."""
    return _RANKS.get(gvk.kind, 0), f"{gvk.group or '~G'}_{gvk.version or '~V'}_{gvk.kind or '~K'}"


def sort(resources: ResourceList, options: Mapping[str, Any] | None) -> None:
    """Put the objects into the order that `sortOptions` asks for.

    Args:
        resources: sorted in place.
        options: the field `sortOptions` of the kustomization that is built; None for none.

    Raises:
        KustomizeError: the options are not one of fifo and legacy, or contradict each other.
    """
    first: Sequence[str] = _FIRST
    last: Sequence[str] = _LAST
    if options is not None:
        order = options.get("order") or ""
        lists = options.get("legacySortOptions")
        if order not in ("fifo", "legacy"):
            raise KustomizeError("the field 'sortOptions.order' must be one of [fifo, legacy]")
        if order == "fifo":
            if lists is not None:
                raise KustomizeError(
                    "the field 'sortOptions.legacySortOptions' is set but the selected sort order is "
                    "'fifo', not 'legacy'"
                )
            return
        if lists is not None:
            first, last = lists.get("orderFirst") or (), lists.get("orderLast") or ()
    ranks = _ranks(first, last)
    items = resources.items
    resources.items = []
    resources.changed()
    resources.extend(sorted(items, key=lambda resource: _key(resource, ranks)))


def _key(resource: Resource, ranks: Mapping[str, int]) -> tuple[int, str, str]:
    gvk = resource.gvk
    kind = f"{gvk.group or '~G'}_{gvk.version or '~V'}_{gvk.kind or '~K'}"
    # A Namespace of the core group comes after those of others, whose group is not empty.
    return ranks.get(gvk.kind, 0), kind, f"{gvk}|{resource.namespace or '~X'}|{resource.name or '~N'}"
