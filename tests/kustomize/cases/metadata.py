"""Names, namespaces, labels, annotations and what is written about a build."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import over_all, tree

_BINDING = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: bind}
subjects:
- {kind: ServiceAccount, name: runner, namespace: default}
- {kind: ServiceAccount, name: default, namespace: other}
- {kind: User, name: me}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bind}
subjects:
- {kind: ServiceAccount, name: default, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: runner}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default}
"""
_CLUSTER = """\
apiVersion: v1
kind: Namespace
metadata: {name: old}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  conversion: {strategy: Webhook, webhook: {clientConfig: {service: {name: hook, namespace: old}}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: v}
webhooks:
- {name: a.b.c, clientConfig: {service: {name: hook, namespace: old}}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.example.com}
spec: {service: {name: hook, namespace: old}}
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: old}
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
"""
_STATEFUL = """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: x, labelSelector: {matchLabels: {app: db}}}
      topologySpreadConstraints:
      - {topologyKey: y, labelSelector: {matchLabels: {app: db}}}
  volumeClaimTemplates:
  - metadata: {name: data, labels: {a: b}}
  - metadata: {name: more}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: job}
spec:
  jobTemplate:
    spec:
      template: {metadata: {}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: net}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: pdb}
spec: {selector: {matchLabels: {app: db}}}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: rc}
spec: {template: {}}
"""


def _over(objects: str, kustomization: str, **more: str) -> dict[str, str]:
    return tree("resources: [o.yaml]\n" + kustomization, o=objects, **more)


CASES = {
    "namePrefix": over_all("namePrefix: p-\n"),
    "nameSuffix": over_all("nameSuffix: -s\n"),
    "prefix and suffix on two levels": tree(
        """
resources: [base]
namePrefix: a-
nameSuffix: -z
=== base/kustomization.yaml
resources: [o.yaml]
namePrefix: b-
nameSuffix: -y
""",
        **{"base/o": _BINDING},
    ),
    "an octal suffix": over_all("nameSuffix: -0010\n"),
    "a quoted octal suffix": over_all("nameSuffix: '-0010'\n"),
    "a prefix spares namespaces and definitions": _over(_CLUSTER, "namePrefix: p-\n"),
    "namespace": over_all("namespace: n\n"),
    "namespace in bindings": _over(_BINDING, "namespace: n\n"),
    "namespace of cluster kinds": _over(_CLUSTER, "namespace: n\n"),
    "namespace over another": _over(_CLUSTER, "namespace: old\n"),
    "namespace as a transformer, only unset": _over(
        _CLUSTER + "---\n" + _BINDING,
        "transformers: [t.yaml]\n",
        t="apiVersion: builtin\nkind: NamespaceTransformer\nmetadata: {name: t, namespace: n}\nunsetOnly: true\n",
    ),
    "namespace as a transformer, all subjects": _over(
        _BINDING,
        "transformers: [t.yaml]\n",
        t="apiVersion: builtin\nkind: NamespaceTransformer\nmetadata: {name: t, namespace: n}\n"
        "setRoleBindingSubjects: allServiceAccounts\n",
    ),
    "namespace as a transformer, no subjects": _over(
        _BINDING,
        "transformers: [t.yaml]\n",
        t="apiVersion: builtin\nkind: NamespaceTransformer\nmetadata: {name: t, namespace: n}\n"
        "setRoleBindingSubjects: none\n",
    ),
    "namespace that makes two equal": _over(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: x}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: y}\n",
        "namespace: n\n",
    ),
    "commonLabels": over_all("commonLabels: {team: a, app: other}\n"),
    "commonLabels in every kind": _over(_STATEFUL, "commonLabels: {team: a}\n"),
    "labels": _over(_STATEFUL, "labels:\n- pairs: {team: a}\n"),
    "labels with selectors": _over(_STATEFUL, "labels:\n- {pairs: {team: a}, includeSelectors: true}\n"),
    "labels with templates": _over(_STATEFUL, "labels:\n- {pairs: {team: a}, includeTemplates: true}\n"),
    "labels with fields": _over(
        _STATEFUL,
        "labels:\n- pairs: {team: a}\n  fields: [{path: spec/extra/labels, create: true, kind: CronJob}]\n",
    ),
    "labels with both": _over(
        _STATEFUL, "labels:\n- {pairs: {team: a}, includeTemplates: true, includeSelectors: true}\n"
    ),
    "labels given twice": over_all("labels:\n- pairs: {team: a}\n- pairs: {team: b}\n"),
    "labels over commonLabels": over_all("commonLabels: {team: a}\nlabels:\n- pairs: {team: b}\n"),
    "labels that are no text": over_all("labels:\n- pairs: {n: 5}\n"),
    "commonAnnotations": over_all("commonAnnotations: {note: a, n: '5'}\n"),
    "commonAnnotations in every kind": _over(_STATEFUL, "commonAnnotations: {team: a}\n"),
    "annotations become text": _over(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations: {a: 1, b: true, c: 1.10, d: null, e: 0644}\n",
        "",
    ),
    "labels stay what they are": _over(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: {a: 1, b: true, c: 1.10, d: null}\n",
        "",
    ),
    "origin annotations": tree(
        """
resources: [base, own.yaml]
buildMetadata: [originAnnotations]
configMapGenerator:
- {name: g, literals: [a=b]}
=== own.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: own}
=== base/kustomization.yaml
resources: [o.yaml]
=== base/o.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: based}
"""
    ),
    "transformer annotations": over_all(
        "buildMetadata: [transformerAnnotations]\nnamePrefix: p-\nlabels:\n- pairs: {a: b}\n"
    ),
    "managed by": over_all("buildMetadata: [managedByLabel]\n"),
    "an unknown metadata option": over_all("buildMetadata: [other]\n"),
    "all metadata": over_all(
        "buildMetadata: [managedByLabel, originAnnotations, transformerAnnotations]\nnamespace: n\n"
    ),
    "prefix of generated and referred": over_all(
        "namePrefix: p-\nconfigMapGenerator:\n- {name: g, literals: [a=b]}\n"
    ),
    "a hash behind a suffix": over_all("nameSuffix: -s\nsecretGenerator:\n- {name: g, literals: [a=b]}\n"),
}
