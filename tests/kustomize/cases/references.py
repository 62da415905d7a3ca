"""Names that other objects refer to."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import tree

_TARGETS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: sa}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: pvc}
---
apiVersion: v1
kind: Service
metadata: {name: svc}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: role}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [c, other], verbs: [get]}
- {apiGroups: [""], resources: [secrets], resourceNames: [s], verbs: [get]}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: sc}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: pc}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ic}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv}
spec: {storageClassName: sc, claimRef: {name: pvc}}
"""
_POD = """\
spec:
  serviceAccountName: sa
  priorityClassName: pc
  imagePullSecrets: [{name: s}]
  containers:
  - name: a
    env:
    - {name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}
    - {name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}
    envFrom: [{configMapRef: {name: c}}, {secretRef: {name: s}}]
  initContainers:
  - name: i
    envFrom: [{configMapRef: {name: c}}]
  volumes:
  - {name: v1, configMap: {name: c}}
  - {name: v2, secret: {secretName: s}}
  - {name: v3, persistentVolumeClaim: {claimName: pvc}}
  - name: v4
    projected: {sources: [{configMap: {name: c}}, {secret: {name: s}}]}
  - {name: v5, configMap: {name: unknown}}
"""
_REFERRERS = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: p}}
{_POD}---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: rb}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: role}}
subjects: [{{kind: ServiceAccount, name: sa}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: ing
  annotations: {{nginx.ingress.kubernetes.io/auth-secret: s}}
spec:
  ingressClassName: ic
  defaultBackend: {{service: {{name: svc, port: {{number: 1}}}}}}
  tls: [{{secretName: s}}]
  rules: [{{http: {{paths: [{{path: /, backend: {{service: {{name: svc, port: {{number: 1}}}}}}}}]}}}}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: hpa}}
spec: {{scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: d}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: d}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: st}}
spec:
  serviceName: svc
  volumeClaimTemplates: [{{metadata: {{name: x}}, spec: {{storageClassName: sc}}}}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: user}}
imagePullSecrets: [{{name: s}}]
"""
_WIDGET = """\
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
spec: {configRef: c, list: [{ref: {name: c}}, {ref: {name: other}}]}
"""
_REFERENCE = """\
nameReference:
- kind: ConfigMap
  version: v1
  fieldSpecs:
  - {path: spec/configRef, kind: Widget}
  - {path: spec/list/ref/name, kind: Widget}
"""


def _over(kustomization: str, objects: str = _TARGETS + "---\n" + _REFERRERS, **more: str) -> dict[str, str]:
    return tree("resources: [o.yaml]\n" + kustomization, o=objects, **more)


CASES = {
    "the whole table, by prefix": _over("namePrefix: p-\n"),
    "the whole table, by suffix": _over("nameSuffix: -s\n"),
    "the whole table, by namespace": _over("namespace: n\nnamePrefix: p-\n"),
    "two levels": tree(
        """
resources: [base]
namePrefix: a-
=== base/kustomization.yaml
resources: [o.yaml]
namePrefix: b-
""",
        **{"base/o": _TARGETS + "---\n" + _REFERRERS},
    ),
    "a custom kind": _over(
        "namePrefix: p-\nconfigurations: [r.yaml]\n", _TARGETS + "---\n" + _WIDGET, r=_REFERENCE
    ),
    "a custom kind without configuration": _over("namePrefix: p-\n", _TARGETS + "---\n" + _WIDGET),
    "a custom kind of crds": _over(
        "namePrefix: p-\ncrds: [crd.json]\n",
        _TARGETS + "---\n" + _WIDGET,
    )
    | {
        "crd.json": '{"example.com/v1.Widget": {"Schema": {"properties": {"kind": {"type": "string"}, "apiVersion":'
        ' {"type": "string"}, "metadata": {"type": "object"}, "spec": {"$ref": "example.com/v1.Spec"}}}},'
        ' "example.com/v1.Spec": {"Schema": {"properties": {"list": {"type": "array"}, "one":'
        ' {"x-kubernetes-object-ref-api-version": "v1", "x-kubernetes-object-ref-kind": "ConfigMap"}}}}}'
    },
    "of a generated one": _over(
        "configMapGenerator:\n- {name: g, literals: [a=b]}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {volumes: [{name: v, configMap: {name: g}}]}\n",
    ),
    "of a generated one in another namespace": _over(
        "configMapGenerator:\n- {name: g, namespace: n, literals: [a=b]}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {volumes: [{name: v, configMap: {name: g}}]}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: q, namespace: n}\nspec: {volumes: [{name: v, configMap: {name: g}}]}\n",
    ),
    "two of one name from two bases": tree(
        """
resources: [a, b]
=== a/kustomization.yaml
resources: [../base]
namePrefix: a-
=== b/kustomization.yaml
resources: [../base]
namePrefix: b-
=== base/kustomization.yaml
resources: [o.yaml]
""",
        **{"base/o": _TARGETS + "---\n" + _REFERRERS},
    ),
    "two of one name in one namespace, told by prefix": tree(
        """
resources: [a, b]
namePrefix: all-
=== a/kustomization.yaml
namePrefix: a-
configMapGenerator:
- {name: c, literals: [a=a]}
resources: [p.yaml]
=== a/p.yaml
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {volumes: [{name: v, configMap: {name: c}}]}
=== b/kustomization.yaml
namePrefix: b-
configMapGenerator:
- {name: c, literals: [a=b]}
resources: [p.yaml]
=== b/p.yaml
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {volumes: [{name: v, configMap: {name: c}}]}
"""
    ),
    "in a namespace of its own": _over(
        "namePrefix: p-\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: n}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {volumes: [{name: v, configMap: {name: c}}]}\n",
    ),
    "a subject in another namespace": _over(
        "namePrefix: p-\n",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa, namespace: n}\n---\n"
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n"
        "subjects: [{kind: ServiceAccount, name: sa, namespace: n}]\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: x}\n",
    ),
    "after a renaming patch": _over(
        "patches:\n- target: {kind: ConfigMap}\n  patch: |-\n    - {op: replace, path: /metadata/name, value: new}\n"
    ),
    "a webhook's certificate": _over(
        "namePrefix: p-\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: hook}\n---\n"
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {name: m}\n"
        "webhooks: [{name: a, clientConfig: {service: {name: hook, namespace: default}}}]\n",
    ),
}
