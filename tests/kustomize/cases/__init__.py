"""Small trees that cover each field of a kustomization, one idea each.

A module's `CASES` maps the name of a case to a tree. A tree is written as one text in which a
line `=== path` begins a file; `build` is the folder that is built when it is not the root.
"""

from __future__ import annotations

from collections.abc import Mapping

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
    spec:
      serviceAccountName: runner
      initContainers:
      - {name: init, image: busybox:1}
      containers:
      - name: main
        image: registry.example/app/web:1.0
        args: [--a, --b]
        env:
        - {name: A, value: "1"}
        - {name: B, value: two}
        - name: C
          valueFrom: {configMapKeyRef: {name: settings, key: c}}
        envFrom:
        - secretRef: {name: keys}
        ports:
        - {containerPort: 80, name: http}
        - {containerPort: 53, protocol: UDP}
        volumeMounts:
        - {name: data, mountPath: /data}
      - {name: side, image: sidecar}
      volumes:
      - {name: data, emptyDir: {}}
      - name: config
        configMap: {name: settings}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: dns, port: 53, protocol: UDP}
"""
SETTINGS = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  a: plain
  b: "5"
  c: |
    several
    lines
"""
KEYS = """\
apiVersion: v1
kind: Secret
metadata:
  name: keys
type: Opaque
stringData: {password: secret}
"""
ACCOUNT = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: runner
"""
ALL = "\n---\n".join((DEPLOYMENT, SERVICE, SETTINGS, KEYS, ACCOUNT))


def tree(text: str, **files: str) -> dict[str, str]:
    """Take a text apart into files; `all` and such name files that are added as `all.yaml`."""
    found: dict[str, str] = {}
    path = "kustomization.yaml"
    lines: list[str] = []
    for line in text.lstrip("\n").splitlines(keepends=True):
        if line.startswith("=== "):
            if lines:
                found[path] = "".join(lines)
            path, lines = line[4:].strip(), []
        else:
            lines.append(line)
    found[path] = "".join(lines)
    return {**found, **{f"{name}.yaml": content for name, content in files.items()}}


def over_all(kustomization: str, **more: str) -> dict[str, str]:
    """Give a tree in which a kustomization stands over the usual objects."""
    return tree("resources: [all.yaml]\n" + kustomization.lstrip("\n"), all=ALL, **more)


def patched(patch: str, *, entry: str = "", of: str = DEPLOYMENT) -> dict[str, str]:
    """Give a tree in which one patch changes one object."""
    return tree(f"resources: [object.yaml]\npatches:\n- path: patch.yaml\n{entry}", object=of, patch=patch)


def collected() -> Mapping[str, dict[str, str]]:
    """Give every case by its name."""
    from tests.kustomize.cases import (  # the modules use the names above
        generators,
        jsonpatches,
        merges,
        metadata,
        plugins,
        references,
        scalars,
        structure,
        values,
    )

    modules = (generators, jsonpatches, merges, metadata, plugins, references, scalars, structure, values)
    return {
        f"{module.__name__.rpartition('.')[2]}: {name}": case
        for module in modules
        for name, case in module.CASES.items()
    }
