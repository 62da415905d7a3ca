"""What a recording shows of a cluster, and how a real object becomes comparable with it.

Role: pure functions between the objects that an API server gives and the form that the
recordings have (README of the corpus `flux-recordings`): which fields are seen, and which
texts stand for what differs from run to run. Plays and compares nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

JSON = dict[str, Any]

# Kinds that a snapshot of a namespace holds.
KINDS: Final = (
    ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ("source.toolkit.fluxcd.io/v1", "OCIRepository"),
    ("source.toolkit.fluxcd.io/v1", "Bucket"),
    ("source.toolkit.fluxcd.io/v1", "HelmRepository"),
    ("source.toolkit.fluxcd.io/v1", "HelmChart"),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
    ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("v1", "PersistentVolumeClaim"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("stable.example.com/v1", "CronTab"),
)
CLUSTER_KINDS: Final = (
    ("v1", "Namespace"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
)

# What recordings show of an object that is not Flux's. A ConfigMap's `immutable`, say, is not shown though
# managers that own it are.
_CONTENT: Final = ("spec", "data", "type", "rules", "roleRef", "subjects")
_UNSEEN_META: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
# Of the status of Flux's kinds: times, generations, digests.
_UNSEEN_STATUS: Final = (
    "lastTransitionTime",
    "lastUpdateTime",
    "firstReconciled",
    "lastReconciled",
    "lastReconciledDuration",
    "observedGeneration",
    "digest",
)
_UNSEEN_ARTIFACT: Final = ("url", "size", "path")

_UID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_DIGEST = re.compile(r"\bsha256:[0-9a-f]{64}\b")
_DURATION = re.compile(r"(?<![\w.])(?:\d+(?:\.\d+)?(?:ns|µs|us|ms|s|m|h))+(?!\w)")


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Replaces what differs from run to run by what the recordings say in its place.

    Args:
        namespace: the scenario's namespace: `{ns}`.
        urls: real URL of a repository -> the URL that recordings show.
        commits: commit ids, the first push's first: `{c1}`, `{c1:12}` and `{c1:8}` when cut.
        folders: folders below which the engine makes temporary ones: `{tmp}`.
    """

    namespace: str
    urls: Mapping[str, str]
    commits: Sequence[str]
    folders: Sequence[str] = ()

    def text(self, value: str) -> str:
        """Give a text with all of it replaced."""
        for url, shown in self.urls.items():
            value = value.replace(url, shown)
        for number, commit in enumerate(self.commits, 1):
            value = value.replace(commit, f"{{c{number}}}")
            for length in (12, 8):
                value = re.sub(rf"\b{commit[:length]}\b", f"{{c{number}:{length}}}", value)
        value = _DIGEST.sub("sha256:{digest}", value)
        for folder in (*self.folders, "/tmp"):
            value = re.sub(rf"{re.escape(folder.rstrip('/'))}/[^/\s'\":]+", "{tmp}", value)
        value = _TIME.sub("{time}", _UID.sub("{uid}", value))
        value = _DURATION.sub("{duration}", value)
        return re.sub(rf"(?<![A-Za-z0-9]){re.escape(self.namespace)}(?![A-Za-z0-9])", "{ns}", value)

    def value(self, value: Any) -> Any:
        """Give a value with every text in it, keys too, replaced."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value


def is_flux(api_version: str) -> bool:
    """Tell whether an apiVersion is of Flux."""
    group = api_version.partition("/")[0]
    return group.endswith((".toolkit.fluxcd.io", ".extensions.fluxcd.io"))


def kind_of(kind: str) -> str:
    """Give the apiVersion of a kind that scenarios name without one.

    Raises:
        KeyError: no scenario names such a kind.
    """
    return {name: api_version for api_version, name in KINDS + CLUSTER_KINDS}[kind]


def belongs(obj: JSON) -> bool:
    """Tell whether a snapshot of a namespace shows an object: what every namespace has is left out."""
    hidden = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
    return (obj["kind"], obj["metadata"]["name"]) not in hidden


def view(obj: JSON) -> JSON:
    """Give what a recording shows of an object, texts not yet replaced.

    Args:
        obj: as the API server gives it, with apiVersion and kind.
    """
    meta = {key: value for key, value in obj["metadata"].items() if key not in _UNSEEN_META}
    if "deletionTimestamp" in meta:
        meta["deletionTimestamp"] = "set"
    shown: JSON = {"metadata": meta}
    if is_flux(obj["apiVersion"]):
        shown["status"] = _flux_status(obj.get("status", {}))
    else:
        shown |= {key: obj[key] for key in _CONTENT if key in obj}
    shown["managers"] = managers(obj["metadata"].get("managedFields", []))
    return shown


def _flux_status(value: Any, inside: str = "") -> Any:
    if isinstance(value, list):
        return [_flux_status(item, inside) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = _UNSEEN_STATUS + (_UNSEEN_ARTIFACT if inside == "artifact" else ())
    return {key: _flux_status(item, key) for key, item in value.items() if key not in hidden}


def managers(entries: Iterable[JSON]) -> dict[str, list[str]]:
    """Give who owns what: `manager operation [subresource]` -> sorted field paths.

    Args:
        entries: managedFields; those of kube-controller-manager are left out.
    """
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry["manager"] == "kube-controller-manager":
            continue
        key = " ".join(filter(None, (entry["manager"], entry["operation"], entry.get("subresource", ""))))
        found.setdefault(key, set()).update(_paths(entry.get("fieldsV1", {}), ""))
    return {key: sorted(paths) for key, paths in sorted(found.items())}


def _paths(fields: JSON, prefix: str) -> Iterable[str]:
    for key, below in fields.items():
        if key == ".":
            yield prefix
        elif below:
            yield from _paths(below, f"{prefix}/{key}")
        else:
            yield f"{prefix}/{key}"


def event_text(event: JSON) -> str:
    """Give an Event as recordings write it, or an empty text when it is not about an object of Flux."""
    about = event.get("involvedObject", {})
    if not is_flux(about.get("apiVersion", "")):
        return ""
    subject = f"{about.get('kind', '')}/{about.get('name', '')}"
    return f"{subject} {event.get('type', '')} {event.get('reason', '')}: {event.get('message', '')}"


def distinct(texts: Iterable[str]) -> list[str]:
    """Give each text once, in order of first appearance."""
    return list(dict.fromkeys(texts))
