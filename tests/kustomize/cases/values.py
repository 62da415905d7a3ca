"""Images, replicas, replacements and variables."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import over_all, tree

_PODS = """\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: a, image: nginx}
  - {name: b, image: "nginx:1.0"}
  - {name: c, image: "nginx@sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3"}
  - {name: d, image: "reg:5000/nginx:1.0"}
  - {name: e, image: "nginx:1.0@sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3"}
  - {name: f, image: "my/nginx:1"}
  - {name: g}
  initContainers: [{name: i, image: "nginx:2"}]
  ephemeralContainers: [{name: j, image: "nginx:3"}]
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
spec:
  image: nginx
  deep: {containers: [{image: "nginx:1"}]}
"""


def _images(text: str, **more: str) -> dict[str, str]:
    return tree("resources: [o.yaml]\nimages:\n" + text, o=_PODS, **more)


def _replaced(text: str, **more: str) -> dict[str, str]:
    return over_all("replacements:\n" + text, **more)


_SOURCE = "- source: {kind: ConfigMap, name: settings, fieldPath: data.a}\n  targets:\n"

CASES = {
    "a new tag": _images("- {name: nginx, newTag: '2.0'}\n"),
    "a new name": _images("- {name: nginx, newName: other/nginx}\n"),
    "a digest": _images("- {name: nginx, digest: sha256:abc}\n"),
    "tag and digest": _images("- {name: nginx, newTag: '2', digest: sha256:abc}\n"),
    "name and tag": _images("- {name: nginx, newName: o, newTag: '2'}\n"),
    "a tag suffix": _images("- {name: nginx, tagSuffix: -alpine}\n"),
    "tag and suffix": _images("- {name: nginx, newTag: '2', tagSuffix: -alpine}\n"),
    "a registry with a port": _images("- {name: 'reg:5000/nginx', newTag: '3'}\n"),
    "several": _images("- {name: nginx, newName: o}\n- {name: o, newTag: '5'}\n"),
    "a tag that is a number": _images("- {name: nginx, newTag: 2.0}\n"),
    "a pattern as name": _images("- {name: 'n.*x', newTag: '2'}\n"),
    "fields of a custom kind": _images(
        "- {name: nginx, newTag: '2'}\nconfigurations: [c.yaml]\n",
        c="images:\n- {path: spec/image, kind: Widget}\n",
    ),
    "replicas": over_all("replicas:\n- {name: web, count: 5}\n"),
    "replicas of nothing": over_all("replicas:\n- {name: none, count: 5}\n"),
    "no replicas at all": over_all("replicas:\n- {name: web, count: 0}\n"),
    "replicas that are text": over_all("replicas:\n- {name: web, count: many}\n"),
    "replicas of several kinds": tree(
        "resources: [o.yaml]\nreplicas:\n- {name: x, count: 3}\n",
        o="apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\n---\n"
        "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: x}\nspec: {replicas: '1'}\n---\n"
        "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: x}\nspec: {}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {}\n",
    ),
    "a replacement": _replaced(_SOURCE + "  - {select: {kind: Secret}, fieldPaths: [stringData.password]}\n"),
    "a replacement of a name": _replaced(
        "- source: {kind: Service, name: web}\n  targets:\n  - {select: {kind: Secret}, fieldPaths: [stringData.password]}\n"
    ),
    "a replacement into list items": _replaced(
        _SOURCE
        + "  - {select: {kind: Deployment}, fieldPaths: ['spec.template.spec.containers.[name=main].env.[name=A].value']}\n"
    ),
    "a replacement into every item": _replaced(
        _SOURCE + "  - {select: {kind: Deployment}, fieldPaths: ['spec.template.spec.containers.*.image']}\n"
    ),
    "a replacement by index": _replaced(
        _SOURCE + "  - {select: {kind: Deployment}, fieldPaths: [spec.template.spec.containers.1.image]}\n"
    ),
    "a replacement of a part": _replaced(
        _SOURCE
        + "  - select: {kind: Deployment}\n    fieldPaths: ['spec.template.spec.containers.[name=main].image']\n"
        "    options: {delimiter: '/', index: 1}\n"
    ),
    "a replacement before the parts": _replaced(
        _SOURCE
        + "  - select: {kind: Deployment}\n    fieldPaths: ['spec.template.spec.containers.[name=main].image']\n"
        "    options: {delimiter: '/', index: -1}\n"
    ),
    "a part of the source": _replaced(
        "- source:\n    kind: Deployment\n    fieldPath: spec.template.spec.containers.0.image\n"
        "    options: {delimiter: ':', index: 1}\n  targets:\n  - {select: {kind: ConfigMap}, fieldPaths: [data.a]}\n"
    ),
    "a replacement that creates": _replaced(
        _SOURCE
        + "  - select: {kind: Secret}\n    fieldPaths: [metadata.labels.x]\n    options: {create: true}\n"
    ),
    "a replacement that does not create": _replaced(
        _SOURCE + "  - {select: {kind: Secret}, fieldPaths: [metadata.labels.x]}\n"
    ),
    "a replacement with rejects": _replaced(
        _SOURCE + "  - select: {version: v1}\n    reject: [{kind: ServiceAccount}, {kind: ConfigMap}]\n"
        "    fieldPaths: [metadata.annotations.x]\n    options: {create: true}\n"
    ),
    "a map as replacement": _replaced(
        "- source: {kind: Service, name: web, fieldPath: spec.selector}\n  targets:\n"
        "  - {select: {kind: Deployment}, fieldPaths: [spec.selector.matchLabels]}\n"
    ),
    "a number as replacement of text": _replaced(
        "- source: {kind: Deployment, fieldPath: spec.replicas}\n  targets:\n"
        "  - {select: {kind: ConfigMap}, fieldPaths: [data.a, data.b]}\n"
    ),
    "a text as replacement of a number": _replaced(
        "- source: {kind: ConfigMap, fieldPath: data.b}\n  targets:\n"
        "  - {select: {kind: Deployment}, fieldPaths: [spec.replicas]}\n"
    ),
    "a source that is not there": _replaced(
        "- source: {kind: ConfigMap, name: none, fieldPath: data.b}\n  targets:\n"
        "  - {select: {kind: Deployment}, fieldPaths: [spec.replicas]}\n"
    ),
    "a field that is not there": _replaced(
        "- source: {kind: ConfigMap, fieldPath: data.none}\n  targets:\n"
        "  - {select: {kind: Deployment}, fieldPaths: [spec.replicas]}\n"
    ),
    "a source that is not one": _replaced(
        "- source: {version: v1, fieldPath: metadata.name}\n  targets:\n"
        "  - {select: {kind: Deployment}, fieldPaths: [spec.replicas]}\n"
    ),
    "a replacement in a file": _replaced(
        "- path: r.yaml\n", r=_SOURCE + "  - {select: {kind: Secret}, fieldPaths: [stringData.password]}\n"
    ),
    "a key with dots": _replaced(
        _SOURCE + "  - select: {kind: Secret}\n    fieldPaths: ['metadata.annotations.example\\.com/x']\n"
        "    options: {create: true}\n"
    ),
    "vars": over_all(
        "vars:\n- name: THE_NAME\n  objref: {kind: Service, name: web, apiVersion: v1}\n"
        "- name: THE_PORT\n  objref: {kind: Service, name: web, apiVersion: v1}\n"
        "  fieldref: {fieldpath: spec.ports[0].port}\npatches: [{path: p.yaml}]\nnamePrefix: p-\n",
        p="apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n"
        "      containers:\n      - name: main\n        args: [$(THE_NAME), $(THE_PORT), $$(THE_NAME), $(OTHER), x$(THE_PORT)y]\n"
        "        env: [{name: N, value: $(THE_NAME).svc}]\n",
    ),
    "vars that nobody uses": over_all(
        "vars:\n- name: X\n  objref: {kind: Service, name: web, apiVersion: v1}\n"
    ),
    "vars of nothing": over_all("vars:\n- name: X\n  objref: {kind: Service, name: none, apiVersion: v1}\n"),
    "vars given twice": over_all(
        "vars:\n- name: X\n  objref: {kind: Service, name: web, apiVersion: v1}\n"
        "- name: X\n  objref: {kind: Service, name: web, apiVersion: v1}\n"
    ),
}
