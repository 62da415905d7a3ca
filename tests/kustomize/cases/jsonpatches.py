"""JSON patches."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import over_all

_TARGET = "  target: {kind: Deployment, name: web}\n"


def _ops(operations: str, target: str = _TARGET) -> dict[str, str]:
    return over_all(f"patches:\n- path: p.yaml\n{target}", p=operations)


_IMAGE = "/spec/template/spec/containers/0/image"

CASES = {
    "replace": _ops(f"- {{op: replace, path: {_IMAGE}, value: new}}\n"),
    "replace what is not there": _ops("- {op: replace, path: /spec/strategy, value: {type: Recreate}}\n"),
    "replace in what is not there": _ops("- {op: replace, path: /spec/strategy/type, value: Recreate}\n"),
    "add a field": _ops("- {op: add, path: /metadata/labels/new, value: x}\n"),
    "add an annotation where none is": _ops("- {op: add, path: /metadata/annotations/new, value: x}\n"),
    "add annotations": _ops("- {op: add, path: /metadata/annotations, value: {a: 5}}\n"),
    "add at the end": _ops("- {op: add, path: /spec/template/spec/containers/-, value: {name: z}}\n"),
    "add at an index": _ops("- {op: add, path: /spec/template/spec/containers/1, value: {name: z}}\n"),
    "add just behind": _ops("- {op: add, path: /spec/template/spec/containers/2, value: {name: z}}\n"),
    "add too far behind": _ops("- {op: add, path: /spec/template/spec/containers/3, value: {name: z}}\n"),
    "add at a negative index": _ops(
        "- {op: add, path: /spec/template/spec/containers/-1, value: {name: z}}\n"
    ),
    "replace at a negative index": _ops(
        "- {op: replace, path: /spec/template/spec/containers/-1, value: {name: z}}\n"
    ),
    "a word as index": _ops("- {op: add, path: /spec/template/spec/containers/first, value: {name: z}}\n"),
    "remove": _ops("- {op: remove, path: /spec/replicas}\n"),
    "remove an item": _ops("- {op: remove, path: /spec/template/spec/containers/0}\n"),
    "remove what is not there": _ops("- {op: remove, path: /spec/strategy}\n"),
    "remove the last by a dash": _ops("- {op: remove, path: /spec/template/spec/containers/-}\n"),
    "move": _ops("- {op: move, from: /spec/replicas, path: /spec/copies}\n"),
    "move what is not there": _ops("- {op: move, from: /spec/none, path: /spec/copies}\n"),
    "copy": _ops("- {op: copy, from: /spec/selector, path: /spec/selector2}\n"),
    "copy between lists": _ops(
        "- {op: copy, from: /spec/template/spec/containers/0/env/0, path: /spec/template/spec/containers/0/env/-}\n"
    ),
    "test that holds": _ops(
        "- {op: test, path: /spec/replicas, value: 1}\n- {op: remove, path: /spec/replicas}\n"
    ),
    "test that does not": _ops("- {op: test, path: /spec/replicas, value: 2}\n"),
    "test of a type": _ops('- {op: test, path: /spec/replicas, value: "1"}\n'),
    "test of a map": _ops("- {op: test, path: /spec/selector, value: {matchLabels: {app: web}}}\n"),
    "test of nothing": _ops("- {op: test, path: /spec/none, value: null}\n"),
    "escapes": _ops("- {op: add, path: /metadata/labels/a~1b~0c, value: x}\n"),
    "null as value": _ops("- {op: add, path: /spec/strategy, value: null}\n"),
    "no value": _ops("- {op: add, path: /spec/strategy}\n"),
    "an unknown operation": _ops("- {op: merge, path: /spec/strategy, value: x}\n"),
    "no operation": _ops("- {path: /spec/strategy, value: x}\n"),
    "no path": _ops("- {op: add, value: x}\n"),
    "a path without a slash": _ops("- {op: add, path: spec/strategy, value: x}\n"),
    "an empty path": _ops("- {op: remove, path: ''}\n"),
    "replace the object": _ops(
        "- {op: replace, path: '', value: {apiVersion: v1, kind: ConfigMap, metadata: {name: web}}}\n"
    ),
    "rename": over_all(
        "namePrefix: p-\npatches:\n- path: p.yaml\n  target: {kind: ConfigMap}\n",
        p="- {op: replace, path: /metadata/name, value: renamed}\n",
    ),
    "another kind": _ops("- {op: replace, path: /kind, value: StatefulSet}\n"),
    "JSON": _ops('[{"op": "replace", "path": "/spec/replicas", "value": 5}]\n'),
    "JSON over lines": _ops('[\n  {"op": "add", "path": "/spec/minReadySeconds", "value": 5}\n]\n'),
    "a flow list that is no JSON": _ops("[{op: replace, path: /spec/replicas, value: 5}]\n"),
    "without target": _ops("- {op: remove, path: /spec/replicas}\n", target=""),
    "in place": over_all(
        "patches:\n- target: {kind: Deployment}\n  patch: |-\n    - op: replace\n      path: /spec/replicas\n      value: 9\n"
    ),
    "every object": over_all(
        "patches:\n- target: {}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {all: objects}}\n"
    ),
    "by pattern of name": over_all(
        "patches:\n- target: {name: 'w.b'}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {x: y}}\n"
    ),
    "a pattern is anchored": over_all(
        "patches:\n- target: {name: 'we'}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {x: y}}\n"
    ),
    "alternatives in a pattern": over_all(
        "patches:\n- target: {kind: Service|Secret}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {x: y}}\n"
    ),
    "a bad pattern": over_all(
        "patches:\n- target: {kind: 'Service('}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {x: y}}\n"
    ),
    "a pattern Go does not know": over_all(
        "patches:\n- target: {kind: '(?=S).*'}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {x: y}}\n"
    ),
    "by group": over_all(
        "patches:\n- target: {group: apps}\n  patch: |-\n    - {op: add, path: /metadata/labels/x, value: y}\n"
    ),
    "by version": over_all(
        "patches:\n- target: {version: v1, kind: Service}\n  patch: |-\n    - {op: add, path: /spec/x, value: y}\n"
    ),
    "by label": over_all(
        "patches:\n- target: {labelSelector: 'app=web'}\n  patch: |-\n    - {op: add, path: /metadata/labels/x, value: y}\n"
    ),
    "by labels of a set": over_all(
        "patches:\n- target: {labelSelector: 'app in (web,db),!other'}\n"
        "  patch: |-\n    - {op: add, path: /metadata/labels/x, value: y}\n"
    ),
    "by absent labels": over_all(
        "patches:\n- target: {labelSelector: 'app notin (web)'}\n"
        "  patch: |-\n    - {op: add, path: /metadata/labels, value: {y: z}}\n"
    ),
    "by annotation": over_all(
        "commonAnnotations: {a: b}\npatches:\n- target: {annotationSelector: a=b}\n"
        "  patch: |-\n    - {op: add, path: /metadata/labels, value: {y: z}}\n"
    ),
    "a bad label selector": over_all(
        "patches:\n- target: {labelSelector: 'app in web'}\n  patch: |-\n    - {op: remove, path: /metadata/labels}\n"
    ),
    "by namespace": over_all(
        "namespace: far\npatches:\n- target: {namespace: default}\n"
        "  patch: |-\n    - {op: add, path: /metadata/labels, value: {y: z}}\n"
    ),
    "patchesJson6902": over_all(
        "patchesJson6902:\n- target: {group: apps, version: v1, kind: Deployment, name: web}\n  path: p.yaml\n",
        p=f"- {{op: replace, path: {_IMAGE}, value: new}}\n",
    ),
    "patchesJson6902 in place": over_all(
        "patchesJson6902:\n- target: {version: v1, kind: Service, name: web}\n"
        '  patch: \'[{"op": "remove", "path": "/spec/ports"}]\'\n'
    ),
    "patchesJson6902 without a name": over_all(
        'patchesJson6902:\n- target: {version: v1, kind: Service}\n  patch: \'[{"op": "remove", "path": "/spec"}]\'\n'
    ),
    "patchesJson6902 where no annotations are": over_all(
        "patchesJson6902:\n- target: {version: v1, kind: Service, name: web}\n"
        '  patch: \'[{"op": "add", "path": "/metadata/annotations/x", "value": "y"}]\'\n'
    ),
    "patchesJson6902 after a suffix": over_all(
        "nameSuffix: -s\npatchesJson6902:\n- target: {version: v1, kind: Service, name: web}\n"
        '  patch: \'[{"op": "add", "path": "/metadata/annotations/x", "value": "y"}]\'\n'
    ),
    "numbers survive": _ops(
        "- {op: add, path: /spec/n, value: [1, 1.5, 1000000, 12345678901234567, 1e3, 0.1, -7]}\n"
    ),
    "words stay texts": _ops(
        '- {op: add, path: /spec/n, value: ["yes", "1", "0x1", "", " a", "a: b", "null", "~"]}\n'
    ),
}
