"""From rendered manifests to what is sent: normalised, labelled, frozen.

Role in the flow: between render and plan. Pure; run in a thread for many objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gitwright.api import meta
from gitwright.apply.live import OWNER_NAME, OWNER_NAMESPACE, Owner
from gitwright.apply.normalise import normalise
from gitwright.core.errors import Stalled, Transient
from gitwright.core.objects import GVK, Manifest


@dataclass(frozen=True, slots=True)
class CommonMetadata:
    """`spec.commonMetadata`: set on every object, over what is there."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def prepare(
    manifests: Iterable[Manifest], owner: Owner, common: CommonMetadata, cluster_scoped: frozenset[GVK]
) -> tuple[Manifest, ...]:
    """Make manifests ready to be applied.

    Args:
        manifests: as rendered.
        owner: the Kustomization whose labels they get.
        common: labels and annotations for all.
        cluster_scoped: kinds that have no namespace, so that one given in Git is dropped.

    Raises:
        Transient: a Secret is still encrypted; the message is Flux's.
        Stalled: two manifests of one object differ, or labels or annotations are no map.

    Source: spec/flux-v2.md 3.1 (commonMetadata) and 3.3 items 2 to 4.
    """
    ready = []
    for manifest in manifests:
        body = normalise(manifest.load())
        metadata = body.setdefault("metadata", {})
        if manifest.gvk in cluster_scoped:
            metadata.pop("namespace", None)
        for place in ("labels", "annotations"):
            if not isinstance(metadata.get(place) or {}, dict):
                raise _malformed(manifest, place)
        labels = metadata.get("labels") or {}
        metadata["labels"] = {
            **labels,
            OWNER_NAME: owner.name,
            OWNER_NAMESPACE: owner.namespace,
            **common.labels,
        }
        if common.annotations:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **common.annotations}
        frozen = Manifest.of(body, manifest.origin)
        _refuse_encrypted(manifest, frozen)
        ready.append(frozen)
    return _unique(ready)


def _malformed(manifest: Manifest, place: str) -> Stalled:
    return Stalled(
        f"{manifest.key.subject} has {place} that are no map",
        reason="BuildFailed",
        subject=manifest.key.subject,
        place=f"metadata.{place}",
        hint="write them as a map of texts",
    )


def declared_scopes(manifests: Iterable[Manifest]) -> dict[GVK, bool]:
    """Read from CustomResourceDefinitions among the manifests whether their kinds are namespaced.

    They are applied before the objects of these kinds, whose identity is needed earlier.
    """
    found: dict[GVK, bool] = {}
    for manifest in manifests:
        if manifest.gvk.kind != "CustomResourceDefinition":
            continue
        spec = manifest.load().get("spec")
        if not isinstance(spec, dict):
            continue
        names, versions = spec.get("names"), spec.get("versions")
        kind = str(names.get("kind") or "") if isinstance(names, dict) else ""
        for version in versions if isinstance(versions, list) else ():
            if isinstance(version, dict):
                gvk = GVK(str(spec.get("group") or ""), str(version.get("name") or ""), kind)
                found[gvk] = spec.get("scope") != "Cluster"
    return found


def _refuse_encrypted(rendered: Manifest, frozen: Manifest) -> None:
    if rendered.gvk != GVK("", "v1", "Secret") or b'"sops"' not in rendered.body:
        return
    body = rendered.load()
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    if "sops" in body and str(annotations.get(meta.DECRYPT, "")).lower() != "disabled":
        raise Transient(
            f"{frozen.key.subject} is SOPS encrypted, configuring decryption is required "
            "for this secret to be reconciled",
            reason="ReconciliationFailed",
            subject=frozen.key.subject,
        )


def _unique(manifests: list[Manifest]) -> tuple[Manifest, ...]:
    seen: dict[object, Manifest] = {}
    for manifest in manifests:
        other = seen.setdefault(manifest.key, manifest)
        if other is not manifest and other.digest != manifest.digest:
            raise Stalled(
                f"{manifest.key.subject} is defined twice with different contents",
                reason="BuildFailed",
                subject=manifest.key.subject,
                hint="keep one of the two definitions",
            )
    return tuple(seen.values())
