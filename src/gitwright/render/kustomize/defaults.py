"""Where names, labels, images and references stand in the kinds of Kubernetes: data only.

Role in the flow: the defaults of `fieldspecs`, to which kustomizations can add.
Each line is a path, `+` behind it when it is made where it is missing, then the kinds it is
for, on further lines if they are many: `Kind`, `group//Kind`, `group/version/Kind`, or `*` for
all. Source: kustomize 5.8, the built-in transformer configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

FIELDS: Mapping[str, str] = {
    "namePrefix": r"""
        metadata/name *
    """,
    "nameSuffix": r"""
        metadata/name *
    """,
    "commonLabels": r"""
        spec/selector+ /v1/Service /v1/ReplicationController
        spec/selector/matchLabels+ Deployment ReplicaSet DaemonSet apps//StatefulSet
        spec/template/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels
            apps//Deployment apps//StatefulSet
        spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels
            apps//Deployment apps//StatefulSet
        spec/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels
            apps//Deployment apps//StatefulSet
        spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels
            apps//Deployment apps//StatefulSet
        spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels
            apps//Deployment apps//StatefulSet
        spec/selector/matchLabels batch//Job policy//PodDisruptionBudget
        spec/jobTemplate/spec/selector/matchLabels batch//CronJob
        spec/podSelector/matchLabels networking.k8s.io//NetworkPolicy
        spec/ingress/from/podSelector/matchLabels networking.k8s.io//NetworkPolicy
        spec/egress/to/podSelector/matchLabels networking.k8s.io//NetworkPolicy
        metadata/labels+ *
        spec/template/metadata/labels+
            /v1/ReplicationController Deployment ReplicaSet DaemonSet apps//StatefulSet batch//Job
        spec/volumeClaimTemplates[]/metadata/labels+ apps//StatefulSet
        spec/jobTemplate/metadata/labels+ batch//CronJob
        spec/jobTemplate/spec/template/metadata/labels+ batch//CronJob
    """,
    "templateLabels": r"""
        metadata/labels+ *
        spec/template/metadata/labels+
            /v1/ReplicationController Deployment ReplicaSet DaemonSet apps//StatefulSet batch//Job
        spec/volumeClaimTemplates[]/metadata/labels+ apps//StatefulSet
        spec/jobTemplate/metadata/labels+ batch//CronJob
        spec/jobTemplate/spec/template/metadata/labels+ batch//CronJob
    """,
    "commonAnnotations": r"""
        metadata/annotations+ *
        spec/template/metadata/annotations+
            /v1/ReplicationController Deployment ReplicaSet DaemonSet StatefulSet batch//Job
        spec/jobTemplate/metadata/annotations+ batch//CronJob
        spec/jobTemplate/spec/template/metadata/annotations+ batch//CronJob
    """,
    "namespace": r"""
        metadata/name+ Namespace
        spec/service/namespace+ apiregistration.k8s.io//APIService
        spec/conversion/webhook/clientConfig/service/namespace
            apiextensions.k8s.io//CustomResourceDefinition
    """,
    "varReference": r"""
        spec/jobTemplate/spec/template/spec/containers/args CronJob
        spec/jobTemplate/spec/template/spec/containers/command CronJob
        spec/jobTemplate/spec/template/spec/containers/env/value CronJob
        spec/jobTemplate/spec/template/spec/containers/volumeMounts/mountPath CronJob
        spec/jobTemplate/spec/template/spec/initContainers/args CronJob
        spec/jobTemplate/spec/template/spec/initContainers/command CronJob
        spec/jobTemplate/spec/template/spec/initContainers/env/value CronJob
        spec/jobTemplate/spec/template/spec/initContainers/volumeMounts/mountPath CronJob
        spec/jobTemplate/spec/template/volumes/nfs/server CronJob
        spec/template/spec/containers/args DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/containers/command DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/containers/env/value DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/containers/volumeMounts/mountPath
            DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/initContainers/args DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/initContainers/command DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/initContainers/env/value DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/initContainers/volumeMounts/mountPath
            DaemonSet Deployment Job ReplicaSet StatefulSet
        spec/template/spec/volumes/nfs/server DaemonSet Deployment Job ReplicaSet
        spec/template/metadata/annotations Deployment
        spec/rules/host Ingress
        spec/tls/hosts Ingress
        spec/tls/secretName Ingress
        spec/containers/args Pod
        spec/containers/command Pod
        spec/containers/env/value Pod
        spec/containers/volumeMounts/mountPath Pod
        spec/initContainers/args Pod
        spec/initContainers/command Pod
        spec/initContainers/env/value Pod
        spec/initContainers/volumeMounts/mountPath Pod
        spec/volumes/nfs/server Pod
        spec/ports/port Service
        spec/ports/targetPort Service
        spec/volumeClaimTemplates/spec/nfs/server StatefulSet
        spec/nfs/server PersistentVolume
        metadata/labels *
        metadata/annotations *
    """,
    "images": r"""
        spec/containers[]/image+ *
        spec/initContainers[]/image+ *
        spec/volumes[]/image/reference+ *
        spec/template/spec/containers[]/image+ *
        spec/template/spec/initContainers[]/image+ *
        spec/template/spec/volumes[]/image/reference+ *
    """,
    "replicas": r"""
        spec/replicas+ Deployment ReplicationController ReplicaSet StatefulSet
    """,
}

# The kind that is named -> where others name it.
REFERENCES: Mapping[str, str] = {
    "Deployment": r"""
        spec/scaleTargetRef/name HorizontalPodAutoscaler
    """,
    "ReplicationController": r"""
        spec/scaleTargetRef/name HorizontalPodAutoscaler
    """,
    "ReplicaSet": r"""
        spec/scaleTargetRef/name HorizontalPodAutoscaler
    """,
    "StatefulSet": r"""
        spec/scaleTargetRef/name HorizontalPodAutoscaler
    """,
    "/v1/ConfigMap": r"""
        spec/volumes/configMap/name /v1/Pod
        spec/containers/env/valueFrom/configMapKeyRef/name /v1/Pod
        spec/initContainers/env/valueFrom/configMapKeyRef/name /v1/Pod
        spec/containers/envFrom/configMapRef/name /v1/Pod
        spec/initContainers/envFrom/configMapRef/name /v1/Pod
        spec/volumes/projected/sources/configMap/name /v1/Pod
        template/spec/volumes/configMap/name PodTemplate
        template/spec/containers/env/valueFrom/configMapKeyRef/name PodTemplate
        template/spec/initContainers/env/valueFrom/configMapKeyRef/name PodTemplate
        template/spec/containers/envFrom/configMapRef/name PodTemplate
        template/spec/initContainers/envFrom/configMapRef/name PodTemplate
        template/spec/volumes/projected/sources/configMap/name PodTemplate
        spec/template/spec/volumes/configMap/name Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/containers/env/valueFrom/configMapKeyRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/initContainers/env/valueFrom/configMapKeyRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/containers/envFrom/configMapRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/initContainers/envFrom/configMapRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/volumes/projected/sources/configMap/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/jobTemplate/spec/template/spec/volumes/configMap/name CronJob
        spec/jobTemplate/spec/template/spec/volumes/projected/sources/configMap/name CronJob
        spec/jobTemplate/spec/template/spec/containers/env/valueFrom/configMapKeyRef/name CronJob
        spec/jobTemplate/spec/template/spec/initContainers/env/valueFrom/configMapKeyRef/name CronJob
        spec/jobTemplate/spec/template/spec/containers/envFrom/configMapRef/name CronJob
        spec/jobTemplate/spec/template/spec/initContainers/envFrom/configMapRef/name CronJob
        spec/configSource/configMap Node
        rules/resourceNames Role ClusterRole
        metadata/annotations/nginx.ingress.kubernetes.io\/fastcgi-params-configmap Ingress
    """,
    "/v1/Secret": r"""
        spec/volumes/secret/secretName /v1/Pod
        spec/containers/env/valueFrom/secretKeyRef/name /v1/Pod
        spec/initContainers/env/valueFrom/secretKeyRef/name /v1/Pod
        spec/containers/envFrom/secretRef/name /v1/Pod
        spec/initContainers/envFrom/secretRef/name /v1/Pod
        spec/imagePullSecrets/name /v1/Pod
        spec/volumes/projected/sources/secret/name /v1/Pod
        template/spec/volumes/secret/secretName PodTemplate
        template/spec/containers/env/valueFrom/secretKeyRef/name PodTemplate
        template/spec/initContainers/env/valueFrom/secretKeyRef/name PodTemplate
        template/spec/containers/envFrom/secretRef/name PodTemplate
        template/spec/initContainers/envFrom/secretRef/name PodTemplate
        template/spec/imagePullSecrets/name PodTemplate
        template/spec/volumes/projected/sources/secret/name PodTemplate
        spec/template/spec/volumes/secret/secretName Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/containers/env/valueFrom/secretKeyRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job serving.knative.dev/v1/Service
        spec/template/spec/initContainers/env/valueFrom/secretKeyRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/containers/envFrom/secretRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/initContainers/envFrom/secretRef/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/imagePullSecrets/name Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/template/spec/volumes/projected/sources/secret/name
            Deployment ReplicaSet DaemonSet StatefulSet Job
        spec/jobTemplate/spec/template/spec/volumes/secret/secretName CronJob
        spec/jobTemplate/spec/template/spec/volumes/projected/sources/secret/name CronJob
        spec/jobTemplate/spec/template/spec/containers/env/valueFrom/secretKeyRef/name CronJob
        spec/jobTemplate/spec/template/spec/initContainers/env/valueFrom/secretKeyRef/name CronJob
        spec/jobTemplate/spec/template/spec/containers/envFrom/secretRef/name CronJob
        spec/jobTemplate/spec/template/spec/initContainers/envFrom/secretRef/name CronJob
        spec/jobTemplate/spec/template/spec/imagePullSecrets/name CronJob
        spec/tls/secretName Ingress Ingress
        metadata/annotations/ingress.kubernetes.io\/auth-secret Ingress
        metadata/annotations/nginx.ingress.kubernetes.io\/auth-secret Ingress
        metadata/annotations/nginx.ingress.kubernetes.io\/auth-tls-secret Ingress
        imagePullSecrets/name ServiceAccount
        parameters/secretName StorageClass
        parameters/adminSecretName StorageClass
        parameters/userSecretName StorageClass
        parameters/secretRef StorageClass
        rules/resourceNames Role ClusterRole
        spec/azureFile/secretName PersistentVolume
    """,
    "/v1/Service": r"""
        spec/serviceName apps//StatefulSet
        spec/rules/http/paths/backend/serviceName Ingress
        spec/backend/serviceName Ingress
        spec/rules/http/paths/backend/service/name Ingress
        spec/defaultBackend/service/name Ingress
        spec/service/name apiregistration.k8s.io//APIService
        webhooks/clientConfig/service
            admissionregistration.k8s.io//ValidatingWebhookConfiguration
            admissionregistration.k8s.io//MutatingWebhookConfiguration
    """,
    "rbac.authorization.k8s.io//Role": r"""
        roleRef/name rbac.authorization.k8s.io//RoleBinding
    """,
    "rbac.authorization.k8s.io//ClusterRole": r"""
        roleRef/name
            rbac.authorization.k8s.io//RoleBinding rbac.authorization.k8s.io//ClusterRoleBinding
    """,
    "/v1/ServiceAccount": r"""
        subjects rbac.authorization.k8s.io//RoleBinding rbac.authorization.k8s.io//ClusterRoleBinding
        spec/serviceAccountName Pod
        spec/template/spec/serviceAccountName StatefulSet Deployment ReplicationController Job DaemonSet
        spec/jobTemplate/spec/template/spec/serviceAccountName CronJob
    """,
    "/v1/PersistentVolumeClaim": r"""
        spec/volumes/persistentVolumeClaim/claimName Pod
        spec/template/spec/volumes/persistentVolumeClaim/claimName
            StatefulSet Deployment ReplicationController Job DaemonSet
        spec/jobTemplate/spec/template/spec/volumes/persistentVolumeClaim/claimName CronJob
    """,
    "/v1/PersistentVolume": r"""
        spec/volumeName PersistentVolumeClaim
        rules/resourceNames ClusterRole
    """,
    "storage.k8s.io/v1/StorageClass": r"""
        spec/storageClassName PersistentVolume PersistentVolumeClaim
        spec/volumeClaimTemplates/spec/storageClassName StatefulSet
    """,
    "scheduling.k8s.io/v1/PriorityClass": r"""
        spec/priorityClassName Pod
        spec/template/spec/priorityClassName StatefulSet Deployment ReplicationController Job DaemonSet
        spec/jobTemplate/spec/template/spec/priorityClassName CronJob
    """,
    "networking.k8s.io/v1/v1/IngressClass": r"""
        spec/ingressClassName Ingress
    """,
    "admissionregistration.k8s.io//ValidatingAdmissionPolicy": r"""
        spec/policyName admissionregistration.k8s.io//ValidatingAdmissionPolicyBinding
    """,
}
