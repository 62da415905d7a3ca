"""Strategic merge patches."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import DEPLOYMENT, SERVICE, SETTINGS, over_all, patched, tree

_HEAD = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
_POD = _HEAD + "spec:\n  template:\n    spec:\n"
_CUSTOM = """\
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
spec:
  parts:
  - {name: a, size: 1}
  - {name: b, size: 2}
  options: {x: 1, y: {z: 2}}
"""
_WIDGET = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec:\n"
_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"


def _pod(text: str) -> dict[str, str]:
    return patched(_POD + text)


CASES = {
    "a scalar and a new field": patched(_HEAD + "spec: {replicas: 3, paused: true}\n"),
    "null takes a field away": patched(_HEAD + "spec: {replicas: null}\n"),
    "null in what is added": patched(
        _HEAD + "spec: {strategy: {type: null, rollingUpdate: {maxSurge: 1}}}\n"
    ),
    "containers by name": _pod("      containers: [{name: side, image: other}, {name: new, image: n}]\n"),
    "the patch's order comes first": _pod(
        "      containers: [{name: z, image: z}, {name: main, tty: true}]\n"
    ),
    "env by name": _pod(
        "      containers: [{name: main, env: [{name: Z, value: z}, {name: B, value: b}]}]\n"
    ),
    "a value becomes a reference": _pod(
        "      containers:\n      - name: main\n        env:\n"
        "        - {name: A, value: null, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n"
    ),
    "lists of scalars are replaced": _pod("      containers: [{name: main, args: [--c]}]\n"),
    "ports by number and protocol": _pod(
        "      containers: [{name: main, ports: [{containerPort: 53, protocol: TCP}, {containerPort: 80, name: x}]}]\n"
    ),
    "ports without protocol": _pod(
        "      containers: [{name: main, ports: [{containerPort: 53, name: dns}]}]\n"
    ),
    "a container deleted": _pod("      containers: [{name: side, $patch: delete}]\n"),
    "a container that is not there deleted": _pod("      containers: [{name: no, $patch: delete}]\n"),
    "a container replaced": _pod("      containers: [{name: main, $patch: replace, image: only}]\n"),
    "a new container with a directive": _pod("      containers: [{name: q, $patch: replace, image: only}]\n"),
    "a list replaced": _pod("      containers: [{$patch: replace}, {name: only, image: only}]\n"),
    "a list deleted": _pod("      containers: [{$patch: delete}]\n"),
    "a list merged by name": _pod("      containers: [{$patch: merge}, {name: main, tty: true}]\n"),
    "a list's directive beside a name": _pod("      containers: [{$patch: replace, name: main, image: x}]\n"),
    "a map replaced": patched(_HEAD + "spec:\n  selector: {$patch: replace, matchLabels: {q: r}}\n"),
    "a map deleted": patched(_HEAD + "spec:\n  selector: {$patch: delete}\n"),
    "a map with a directive where none was": patched(
        _HEAD + "spec:\n  strategy: {$patch: replace, type: Recreate}\n"
    ),
    "a map deleted where none was": patched(_HEAD + "spec:\n  strategy: {$patch: delete, type: Recreate}\n"),
    "an unknown directive": patched(_HEAD + "spec:\n  selector: {$patch: remove}\n"),
    "an unknown directive where nothing was": patched(_HEAD + "spec:\n  strategy: {$patch: remove}\n"),
    "the object deleted": over_all("patches: [{path: p.yaml}]\n", p="$patch: delete\n" + _HEAD),
    "the object replaced": over_all(
        "patches: [{path: p.yaml}]\n", p="$patch: replace\n" + _HEAD + "spec: {a: 1}\n"
    ),
    "all of a kind deleted": over_all(
        "patches:\n- target: {kind: .*t}\n  patch: '{$patch: delete, apiVersion: v1, kind: X, metadata: {name: x}}'\n"
    ),
    "retainKeys is kept as a field": patched(
        _HEAD + "spec:\n  strategy: {$retainKeys: [type], type: Recreate}\n"
    ),
    "setElementOrder is kept as a field": _pod(
        "      $setElementOrder/containers: [{name: side}, {name: main}]\n      containers: [{name: side, tty: true}]\n"
    ),
    "deleteFromPrimitiveList is kept as a field": patched(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  $deleteFromPrimitiveList/finalizers: [a]\n"
    ),
    "finalizers are merged": patched(
        _MAP.replace("{name: settings}", "{name: settings, finalizers: [c, b]}"),
        of=SETTINGS.replace("name: settings", "name: settings\n  finalizers: [a, b]"),
    ),
    "finalizers given twice": patched(
        _MAP.replace("{name: settings}", "{name: settings, finalizers: [c, c, ]}"),
        of=SETTINGS.replace("name: settings", "name: settings\n  finalizers: [a, b, a]"),
    ),
    "tolerations are replaced": _pod("      tolerations: [{key: a, operator: Exists}]\n"),
    "volumes by name": _pod("      volumes: [{name: data, emptyDir: null, hostPath: {path: /x}}]\n"),
    "volume mounts by path": _pod(
        "      containers: [{name: main, volumeMounts: [{mountPath: /data, name: other}, {mountPath: /e, name: e}]}]\n"
    ),
    "pull secrets by name": _pod("      imagePullSecrets: [{name: a}, {name: b}]\n"),
    "an item without its key": _pod("      containers: [{name: main, tty: true}, {image: nameless}]\n"),
    "only items without their key": _pod("      containers: [{image: nameless}]\n"),
    "an item without its key in the object": patched(
        _POD + "      containers: [{name: main, tty: true}]\n",
        of=DEPLOYMENT.replace("- {name: side, image: sidecar}", "- {image: sidecar}"),
    ),
    "an item given twice": _pod("      containers: [{name: main, tty: true}, {name: main, stdin: true}]\n"),
    "an item given twice in the object": patched(
        _HEAD + "spec: {replicas: 2}\n", of=DEPLOYMENT.replace("name: B, value: two", "name: A, value: two")
    ),
    "service ports": patched(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80, targetPort: 1}]}\n",
        of=SERVICE,
    ),
    "service ports by protocol": patched(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
        "spec: {ports: [{port: 53, protocol: TCP, name: t}, {port: 53, protocol: UDP, name: u}]}\n",
        of=SERVICE,
    ),
    "a custom kind's lists are replaced": patched(_WIDGET + "  parts: [{name: a, size: 9}]\n", of=_CUSTOM),
    "a custom kind's maps are merged": patched(_WIDGET + "  options: {x: null, y: {q: 1}}\n", of=_CUSTOM),
    "a directive in a replaced list stays": patched(_WIDGET + "  parts: [{$patch: replace}]\n", of=_CUSTOM),
    "an embedded object has its kind's keys": patched(
        _WIDGET + "  embedded: {spec: {containers: [{name: b, tty: true}]}}\n",
        of=_CUSTOM + "  embedded: {apiVersion: v1, kind: Pod, spec: {containers: [{name: a}, {name: b}]}}\n",
    ),
    "a quoted value stays text": patched(_MAP + "data: {a: 1, b: 6, c: true}\n", of=SETTINGS),
    "a quoted value on a plain one": patched(_MAP + 'data: {a: "1"}\n', of=SETTINGS),
    "a blank value is taken away": patched(
        _MAP + "data: {a: x}\n", of=SETTINGS + "  d:\n  e: null\n  f: ~\n"
    ),
    "a map over a scalar": patched(_MAP + "data: {a: {b: c}}\n", of=SETTINGS),
    "a scalar over a list": _pod("      containers: none\n"),
    "a list over a map": patched(_HEAD + "spec: []\n"),
    "the name cannot be changed": patched(
        _HEAD.replace("name: web", "name: other") + "spec: {replicas: 2}\n",
        entry="  target: {kind: Deployment}\n",
    ),
    "the name can be changed": over_all(
        "patches:\n- path: p.yaml\n  target: {kind: ConfigMap}\n  options: {allowNameChange: true}\n",
        p=_MAP.replace("name: settings", "name: others"),
    ),
    "the kind can be changed": over_all(
        "patches:\n- path: p.yaml\n  target: {kind: Deployment}\n  options: {allowKindChange: true}\n",
        p="apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec: {replicas: 4}\n",
    ),
    "the kind cannot be changed": over_all(
        "patches:\n- path: p.yaml\n  target: {kind: Deployment}\n",
        p="apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec: {replicas: 4}\n",
    ),
    "the namespace cannot be changed": over_all(
        "patches:\n- path: p.yaml\n  target: {kind: Deployment}\n",
        p="apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: far}\nspec: {replicas: 4}\n",
    ),
    "a target's labels become text": over_all(
        "patches:\n- path: p.yaml\n  target: {name: web}\n",
        p="apiVersion: v1\nkind: X\nmetadata: {name: y, labels: {app: null, n: 5}, annotations: {a: true}}\n",
    ),
    "a name's labels do not": over_all(
        "patches:\n- path: p.yaml\n",
        p="apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {app: null, n: 5}}\n",
    ),
    "several in one file": over_all(
        "patches:\n- path: p.yaml\n",
        p=_HEAD + "spec: {replicas: 2}\n---\n" + _MAP + "data: {z: z}\n",
    ),
    "several in one file with a target": over_all(
        "patches:\n- path: p.yaml\n  target: {kind: Deployment}\n",
        p=_HEAD + "spec: {replicas: 2}\n---\n" + _MAP + "data: {z: z}\n",
    ),
    "a list in a file": over_all(
        "patches:\n- path: p.yaml\n",
        p="apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {l: l}}\n",
    ),
    "nothing to patch": over_all("patches: [{path: p.yaml}]\n", p=_HEAD.replace("name: web", "name: wob")),
    "a target that means nothing": over_all("patches: [{path: p.yaml, target: {name: none}}]\n", p=_HEAD),
    "an empty file": over_all("patches: [{path: p.yaml}]\n", p="# nothing\n"),
    "no file": over_all("patches: [{path: p.yaml}]\n"),
    "path and text": over_all("patches: [{path: p.yaml, patch: 'x'}]\n", p=_HEAD),
    "neither path nor text": over_all("patches: [{target: {kind: X}}]\n"),
    "no YAML": over_all("patches: [{path: p.yaml}]\n", p="a: [\n"),
    "patchesStrategicMerge by file and in place": over_all(
        "patchesStrategicMerge:\n- p.yaml\n- |\n  apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: settings, labels: {x: null}}\n",
        p=_HEAD + "spec: {replicas: 7}\n",
    ),
    "patchesStrategicMerge meets nothing": over_all(
        "patchesStrategicMerge: [p.yaml]\n", p=_HEAD.replace("name: web", "name: wob")
    ),
    "patchesStrategicMerge deletes": over_all(
        "patchesStrategicMerge: [p.yaml]\n", p="$patch: delete\n" + _HEAD
    ),
    "after a prefix by the old name": tree(
        """
resources: [base]
namePrefix: p-
patches:
- patch: |-
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings}
    data: {x: y}
=== base/kustomization.yaml
resources: [object.yaml]
namePrefix: b-
=== base/object.yaml
"""
        + SETTINGS
    ),
    "after a prefix by the new name": tree(
        """
resources: [base]
patches:
- patch: |-
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: b-settings}
    data: {x: y}
=== base/kustomization.yaml
resources: [object.yaml]
namePrefix: b-
=== base/object.yaml
"""
        + SETTINGS
    ),
    "annotations replaced forgets former names": tree(
        """
resources: [base]
nameSuffix: -s
patches:
- patch: |-
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, annotations: {$patch: replace, a: b}}
=== base/kustomization.yaml
resources: [object.yaml]
namePrefix: b-
=== base/object.yaml
"""
        + SETTINGS
    ),
}
