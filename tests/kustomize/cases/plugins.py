"""Transformers, generators and validators in files."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import over_all, tree

_META = "metadata: {name: t}\n"


def _transformed(kind: str, text: str) -> dict[str, str]:
    return over_all("transformers: [t.yaml]\n", t=f"apiVersion: builtin\nkind: {kind}\n{_META}{text}")


CASES = {
    "PrefixTransformer": _transformed(
        "PrefixTransformer", "prefix: p-\nfieldSpecs: [{path: metadata/name}]\n"
    ),
    "SuffixTransformer": _transformed(
        "SuffixTransformer", "suffix: -s\nfieldSpecs: [{path: metadata/name, kind: Service}]\n"
    ),
    "LabelTransformer": _transformed(
        "LabelTransformer", "labels: {a: b}\nfieldSpecs: [{path: metadata/labels, create: true}]\n"
    ),
    "AnnotationsTransformer": _transformed(
        "AnnotationsTransformer",
        "annotations: {a: b}\nfieldSpecs: [{path: metadata/annotations, create: true}]\n",
    ),
    "ImageTagTransformer": _transformed("ImageTagTransformer", "imageTag: {name: sidecar, newTag: '2'}\n"),
    "ReplicaCountTransformer": _transformed(
        "ReplicaCountTransformer",
        "replica: {name: web, count: 3}\nfieldSpecs: [{path: spec/replicas, create: true, kind: Deployment}]\n",
    ),
    "PatchTransformer": _transformed(
        "PatchTransformer", 'target: {kind: Service}\npatch: \'[{"op": "remove", "path": "/spec/ports"}]\'\n'
    ),
    "PatchStrategicMergeTransformer": _transformed(
        "PatchStrategicMergeTransformer",
        "patches: |-\n  {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: NodePort}}\n",
    ),
    "PatchJson6902Transformer": _transformed(
        "PatchJson6902Transformer",
        'target: {kind: Service, name: web, version: v1}\njsonOp: \'[{"op": "remove", "path": "/spec/ports"}]\'\n',
    ),
    "ReplacementTransformer": _transformed(
        "ReplacementTransformer",
        "replacements:\n- source: {kind: Service, fieldPath: metadata.name}\n"
        "  targets: [{select: {kind: Secret}, fieldPaths: [stringData.password]}]\n",
    ),
    "ValueAddTransformer": _transformed(
        "ValueAddTransformer",
        "value: x\ntargets:\n- {selector: {kind: Service}, fieldPath: metadata/annotations/a}\n",
    ),
    "NamespaceTransformer": over_all(
        "transformers: [t.yaml]\n",
        t="apiVersion: builtin\nkind: NamespaceTransformer\nmetadata: {name: t, namespace: n}\n"
        "fieldSpecs: [{path: metadata/namespace, create: true}]\n",
    ),
    "in place": over_all(
        "transformers:\n- |-\n  apiVersion: builtin\n  kind: PrefixTransformer\n  metadata: {name: t}\n"
        "  prefix: p-\n  fieldSpecs: [{path: metadata/name}]\n"
    ),
    "from a kustomization": tree(
        "resources: [o.yaml]\ntransformers: [t]\n=== t/kustomization.yaml\nresources: [t.yaml]\n"
        "=== t/t.yaml\napiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: t}\nprefix: p-\n"
        "fieldSpecs: [{path: metadata/name}]\n=== o.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    ),
    "an unknown kind": _transformed("OtherTransformer", "x: y\n"),
    "a function": over_all(
        "transformers: [t.yaml]\n",
        t="apiVersion: example.com/v1\nkind: Fn\nmetadata:\n  name: f\n  annotations:\n"
        "    config.kubernetes.io/function: |\n      container: {image: example.com/fn:1}\n",
    ),
    "ConfigMapGenerator": over_all(
        "generators: [g.yaml]\n",
        g="apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: g}\nliterals: [a=b]\n",
    ),
    "SecretGenerator": over_all(
        "generators: [g.yaml]\n",
        g="apiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: g}\nliterals: [a=b]\ntype: x/y\n",
    ),
    "a generator in place": over_all(
        "generators:\n- |-\n  apiVersion: builtin\n  kind: ConfigMapGenerator\n  metadata: {name: g}\n  literals: [a=b]\n"
    ),
    "a generator that runs a program": over_all(
        "generators: [g.yaml]\n",
        g="apiVersion: example.com/v1\nkind: G\nmetadata:\n  name: g\n  annotations:\n"
        "    config.kubernetes.io/function: |\n      exec: {path: ./run.sh}\n",
    ),
    "a validator that changes nothing": over_all(
        "validators: [v.yaml]\n",
        v="apiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: v}\nlabels: {app: web}\nfieldSpecs: []\n",
    ),
    "a validator that changes": over_all(
        "validators: [v.yaml]\n",
        v="apiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: v}\nlabels: {a: b}\n"
        "fieldSpecs: [{path: metadata/labels, create: true}]\n",
    ),
    "no such transformer": over_all("transformers: [none.yaml]\n"),
}
