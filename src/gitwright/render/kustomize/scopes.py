"""Which kinds are cluster-scoped, as far as a build can know.

Role in the flow: identities are compared by effective namespace, and that is none for kinds
that are certainly cluster-scoped. Data, and one value per build that may add to it; nothing
here is shared between builds. Source: kustomize kyaml/openapi (Kubernetes 1.21).
"""

from __future__ import annotations

from collections.abc import Mapping

from gitwright.render.kustomize.gvk import Gvk

# apiVersion -> kinds. What is not named here is namespaced or unknown, which is the same to kustomize.
_CLUSTER: Mapping[str, str] = {
    "admissionregistration.k8s.io/v1": "MutatingWebhookConfiguration ValidatingWebhookConfiguration",
    "admissionregistration.k8s.io/v1beta1": "MutatingWebhookConfiguration ValidatingWebhookConfiguration",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition",
    "apiextensions.k8s.io/v1beta1": "CustomResourceDefinition",
    "apiregistration.k8s.io/v1": "APIService",
    "apiregistration.k8s.io/v1beta1": "APIService",
    "certificates.k8s.io/v1": "CertificateSigningRequest",
    "certificates.k8s.io/v1beta1": "CertificateSigningRequest",
    "flowcontrol.apiserver.k8s.io/v1beta1": "FlowSchema PriorityLevelConfiguration",
    "networking.k8s.io/v1": "IngressClass",
    "networking.k8s.io/v1beta1": "IngressClass",
    "node.k8s.io/v1": "RuntimeClass",
    "node.k8s.io/v1beta1": "RuntimeClass",
    "policy/v1beta1": "PodSecurityPolicy",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding",
    "rbac.authorization.k8s.io/v1beta1": "ClusterRole ClusterRoleBinding",
    "scheduling.k8s.io/v1": "PriorityClass",
    "scheduling.k8s.io/v1beta1": "PriorityClass",
    "storage.k8s.io/v1": "CSIDriver CSINode StorageClass VolumeAttachment",
    "storage.k8s.io/v1beta1": "CSIDriver CSINode StorageClass VolumeAttachment",
    "v1": "ComponentStatus Namespace Node NodeProxyOptions PersistentVolume",
}
_KNOWN = frozenset((version, kind) for version, kinds in _CLUSTER.items() for kind in kinds.split())
# Kinds that are certainly namespaced: a schema of the user's cannot make them anything else.
_NAMESPACED: Mapping[str, str] = {
    "apps/v1": "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
    "autoscaling/v1": "HorizontalPodAutoscaler Scale",
    "autoscaling/v2beta1": "HorizontalPodAutoscaler",
    "autoscaling/v2beta2": "HorizontalPodAutoscaler",
    "batch/v1": "CronJob Job",
    "batch/v1beta1": "CronJob",
    "coordination.k8s.io/v1": "Lease",
    "coordination.k8s.io/v1beta1": "Lease",
    "discovery.k8s.io/v1": "EndpointSlice",
    "discovery.k8s.io/v1beta1": "EndpointSlice",
    "events.k8s.io/v1": "Event",
    "events.k8s.io/v1beta1": "Event",
    "extensions/v1beta1": "Ingress",
    "networking.k8s.io/v1": "Ingress NetworkPolicy",
    "networking.k8s.io/v1beta1": "Ingress",
    "policy/v1": "PodDisruptionBudget",
    "policy/v1beta1": "PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1": "Role RoleBinding",
    "rbac.authorization.k8s.io/v1beta1": "Role RoleBinding",
    "storage.k8s.io/v1beta1": "CSIStorageCapacity",
    "v1": (
        "ConfigMap Endpoints Event LimitRange PersistentVolumeClaim Pod PodAttachOptions PodExecOptions "
        "PodPortForwardOptions PodProxyOptions PodTemplate ReplicationController ResourceQuota Secret "
        "Service ServiceAccount ServiceProxyOptions"
    ),
}
_FIXED = frozenset((version, kind) for version, kinds in _NAMESPACED.items() for kind in kinds.split())


class Scopes:
    """Which kinds are cluster-scoped in one build."""

    def __init__(self) -> None:
        self._cluster = _KNOWN
        self._answers: dict[Gvk, bool] = {}

    def add(self, kinds: frozenset[tuple[str, str]]) -> None:
        """Add kinds that a schema of the user's shows to be cluster-scoped.

        Args:
            kinds: apiVersion and kind of each.
        """
        self._cluster |= kinds - _FIXED
        self._answers.clear()

    def cluster(self, gvk: Gvk) -> bool:
        """Tell whether a kind is certainly cluster-scoped."""
        found = self._answers.get(gvk)
        if found is None:
            found = self._answers[gvk] = (gvk.api_version, gvk.kind) in self._cluster
        return found

    def effective(self, gvk: Gvk, namespace: str) -> str:
        """Give the effective namespace of an object of a kind: never empty."""
        return "_non_namespaceable_" if self.cluster(gvk) else namespace or "default"
