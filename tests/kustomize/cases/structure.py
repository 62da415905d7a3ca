"""How kustomizations are made of others, and what they may not be."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import ALL, SETTINGS, over_all, tree

_BASE = "\n=== base/kustomization.yaml\nresources: [o.yaml]\n=== base/o.yaml\n" + SETTINGS
_COMPONENT = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"


CASES = {
    "a base": tree("resources: [base]\n" + _BASE),
    "bases": tree("bases: [base]\n" + _BASE),
    "a base by a path with dots": tree("resources: [./x/../base/]\n" + _BASE),
    "a base twice": tree("resources: [base, base]\n" + _BASE),
    "a base twice with prefixes": tree(
        "resources: [a, b]\n=== a/kustomization.yaml\nresources: [../base]\nnamePrefix: a-\n"
        "=== b/kustomization.yaml\nresources: [../base]\nnamePrefix: b-\n" + _BASE
    ),
    "no such resource": tree("resources: [none.yaml]\n"),
    "a folder without kustomization": tree("resources: [sub]\n=== sub/o.yaml\n" + SETTINGS),
    "a circle": tree(
        "resources: [a]\n=== a/kustomization.yaml\nresources: [../b]\n=== b/kustomization.yaml\nresources: [../a]\n"
    ),
    "itself": tree("resources: [.]\n"),
    "the folder above": tree("resources: [..]\n"),
    "an absolute path": tree("resources: [/etc/passwd]\n"),
    "an empty kustomization": tree("\n=== o.yaml\n" + SETTINGS),
    "only kind and version": tree("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"),
    "no resources": tree("namePrefix: x-\n"),
    "an unknown field": tree("resource: [base]\n" + _BASE),
    "a field in other letters": tree("Resources: [base]\n" + _BASE),
    "a wrong type": tree("resources: base\n" + _BASE),
    "another kind": tree("kind: Other\nresources: [base]\n" + _BASE),
    "another version": tree(
        "apiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\nresources: [base]\n" + _BASE
    ),
    "a field given twice": tree("resources: [base]\nresources: [base]\n" + _BASE),
    "several documents": tree("resources: [base]\n---\nresources: [none]\n" + _BASE),
    "kustomization.yml": {"kustomization.yml": "resources: [o.yaml]\n", "o.yaml": SETTINGS},
    "Kustomization": {"Kustomization": "resources: [o.yaml]\n", "o.yaml": SETTINGS},
    "two kustomization files": {
        "kustomization.yaml": "resources: [o.yaml]\n",
        "Kustomization": "resources: [o.yaml]\n",
        "o.yaml": SETTINGS,
    },
    "none": {"o.yaml": SETTINGS},
    "a kustomization as resource": tree("resources: [base/kustomization.yaml]\n" + _BASE),
    "a component": tree(
        "resources: [o.yaml]\ncomponents: [c]\n=== c/kustomization.yaml\n" + _COMPONENT + "namePrefix: c-\n",
        o=ALL,
    ),
    "components in order": tree(
        "resources: [o.yaml]\nnamePrefix: k-\ncomponents: [a, b]\n=== a/kustomization.yaml\n"
        + _COMPONENT
        + "namePrefix: a-\nconfigMapGenerator:\n- {name: settings, behavior: merge, literals: [x=y]}\n"
        "=== b/kustomization.yaml\n" + _COMPONENT + "nameSuffix: -b\npatches:\n- target: {kind: Service}\n"
        "  patch: |-\n    - {op: add, path: /metadata/labels, value: {a: b}}\n",
        o=ALL,
    ),
    "a component with resources": tree(
        "components: [c]\nresources: [o.yaml]\n=== c/kustomization.yaml\n"
        + _COMPONENT
        + "resources: [m.yaml]\n"
        "=== c/m.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n",
        o=ALL,
    ),
    "a component as resource": tree(
        "resources: [c]\n=== c/kustomization.yaml\n" + _COMPONENT + "namePrefix: c-\n"
    ),
    "a kustomization as component": tree("components: [base]\n" + _BASE),
    "a list": tree(
        "resources: [o.yaml]\n",
        o="apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n",
    ),
    "a list of a kind": tree(
        "resources: [o.yaml]\n",
        o="apiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n",
    ),
    "a list beside others": tree(
        "resources: [o.yaml]\n",
        o=SETTINGS
        + "---\napiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {x: 'yes'}}, data: {n: 5, d: 2020-01-01}}\n---\n"
        + SETTINGS.replace("settings", "zz"),
    ),
    "an empty list": tree(
        "resources: [o.yaml, p.yaml]\n", o="apiVersion: v1\nkind: List\nitems: []\n", p=SETTINGS
    ),
    "a list without items": tree(
        "resources: [o.yaml]\n",
        o="apiVersion: example.com/v1\nkind: AllowList\nmetadata: {name: x}\nspec: {}\n",
    ),
    "one object twice": tree("resources: [o.yaml, p.yaml]\n", o=SETTINGS, p=SETTINGS),
    "one name, two groups": tree(
        "resources: [o.yaml]\n",
        o="apiVersion: a.example/v1\nkind: X\nmetadata: {name: x}\n---\napiVersion: b.example/v1\nkind: X\nmetadata: {name: x}\n",
    ),
    "one name, two versions": tree(
        "resources: [o.yaml]\n",
        o="apiVersion: a.example/v1\nkind: X\nmetadata: {name: x}\n---\napiVersion: a.example/v2\nkind: X\nmetadata: {name: x}\n",
    ),
    "default and no namespace": tree(
        "resources: [o.yaml]\n",
        o="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: default}\n",
    ),
    "a local object": tree(
        "resources: [o.yaml]\n",
        o=SETTINGS
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: l, annotations: {config.kubernetes.io/local-config: 'true'}}\n",
    ),
    "sorted as ever": over_all("sortOptions: {order: legacy}\n"),
    "sorted as read": over_all("sortOptions: {order: fifo}\n"),
    "sorted by given kinds": over_all(
        "sortOptions:\n  order: legacy\n  legacySortOptions: {orderFirst: [Deployment], orderLast: [Secret]}\n"
    ),
    "sorted in an unknown way": over_all("sortOptions: {order: random}\n"),
    "sorted by given kinds, as read": over_all(
        "sortOptions:\n  order: fifo\n  legacySortOptions: {orderFirst: [Deployment]}\n"
    ),
    "a chart": over_all("helmCharts:\n- {name: x, repo: 'https://charts.example', version: 1.0.0}\n"),
    "openapi by path": tree(
        "resources: [o.yaml]\nopenapi: {path: s.json}\npatches: [{path: p.yaml}]\n"
        '=== s.json\n{"definitions": {"W": {"x-kubernetes-group-version-kind": [{"group": "example.com",'
        ' "version": "v1", "kind": "Widget"}], "properties": {"spec": {"properties": {"parts": {'
        '"type": "array", "items": {"type": "object"}, "x-kubernetes-patch-strategy": "merge",'
        ' "x-kubernetes-patch-merge-key": "name"}}}}}}}\n',
        o="apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {parts: [{name: a, size: 1}, {name: b}]}\n---\n"
        + ALL,
        p="apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {parts: [{name: a, color: red}]}\n---\n"
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: main}]}}}\n",
    ),
    "openapi by version": over_all("openapi: {version: v1.21.2}\n"),
    "openapi by an unknown version": over_all("openapi: {version: v1.20.0}\n"),
    "openapi that is not there": over_all("openapi: {path: none.json}\n"),
    "configurations": tree(
        "resources: [o.yaml]\nnamePrefix: p-\ncommonLabels: {a: b}\ncommonAnnotations: {n: o}\nnamespace: far\n"
        "configurations: [c.yaml]\nimages: [{name: i, newTag: '2'}]\nreplicas: [{name: w, count: 4}]\n",
        o="apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {image: i, deep: {ns: x, labels: {}}, copies: 1, title: t}\n",
        c="namePrefix:\n- {path: spec/title, kind: Widget}\nnamespace:\n- {path: spec/deep/ns, kind: Widget}\n"
        "commonLabels:\n- {path: spec/deep/labels, kind: Widget, create: true}\n"
        "commonAnnotations:\n- {path: spec/deep/notes, kind: Widget, create: true}\n"
        "images:\n- {path: spec/image, kind: Widget}\nreplicas:\n- {path: spec/copies, kind: Widget}\n",
    ),
    "configurations with an unknown field": over_all("configurations: [c.yaml]\n", c="nothing: []\n"),
    "configurations that conflict": over_all(
        "configurations: [c.yaml]\n", c="commonLabels:\n- {path: metadata/labels, create: false}\n"
    ),
    "metadata of a kustomization": tree("metadata: {name: x}\nresources: [base]\n" + _BASE),
}
