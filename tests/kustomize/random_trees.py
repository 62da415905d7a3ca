"""Trees made by chance: objects, layers and features put together.

Role in the flow: the random comparison draws from here. `make` takes its chances from a `Random`,
so that a seed names a tree and hypothesis can shrink one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any


class Raw(str):
    """A scalar that is written as it stands."""

    __slots__ = ()


_NAMES = ("web", "db", "settings", "keys", "a-b", "x1")
_SPACES = ("", "", "", "default", "far", "other")
_IMAGES = ("nginx", "nginx:1.0", "reg.example:5000/app/web:2.1", "busybox@sha256:abc", "app/web")
_SCALARS = (
    "plain",
    '"quoted"',
    "'5'",
    "5",
    "-7",
    "1.5",
    "1.10",
    "0644",
    "true",
    "yes",
    "no",
    "null",
    "~",
    "",
    "1e3",
    '"yes"',
    "2020-01-01",
    '"2020-01-01"',
    "0x1F",
    "a b",
    '"a: b"',
    '"line\\nline\\n"',
    "1_000",
    '""',
    "08",
    "1:30",
)
_KEYS = ("a", "b", "c", "d.e", "f-g", "H")


def make(random: Random) -> dict[str, str]:
    """Make a tree with a kustomization at its root."""
    return _Maker(random).tree()


def text_of(value: Any, indent: int = 0) -> str:
    """Write a value as block YAML."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            shown = (
                key
                if key.replace("-", "").replace(".", "").isalnum() and not key.isdigit()
                else json.dumps(key)
            )
            if isinstance(item, dict | list) and item:
                lines.append(f"{pad}{shown}:\n{text_of(item, indent + (isinstance(item, dict)))}")
            else:
                lines.append(f"{pad}{shown}: {_scalar(item)}".rstrip() + "\n")
        return "".join(lines)
    if isinstance(value, list) and value:
        lines = []
        for item in value:
            below = (
                text_of(item, indent + 1) if isinstance(item, dict | list) and item else _scalar(item) + "\n"
            )
            lines.append(f"{pad}- {below.lstrip(' ')}")
        return "".join(lines)
    return pad + _scalar(value) + "\n"


def _scalar(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    return json.dumps(value)


class _Maker:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._files: dict[str, str] = {}
        self._objects: list[dict[str, Any]] = []
        self._visible: dict[str, list[dict[str, Any]]] = {}
        self._taken: set[tuple[str, ...]] = set()

    def tree(self) -> dict[str, str]:
        folders = ["base", "other"][: self._random.choice((1, 1, 2))]
        for folder in folders:
            self._layer(folder, [], [self._fresh() for _ in range(self._random.randint(1, 5))])
        middle = []
        if self._often(0.3):
            self._layer("middle", [f"../{name}" for name in folders], [])
            middle = ["middle"]
        component = self._often(0.25)
        if component:
            self._layer("component", [], [], component=True)
        own = [self._fresh() for _ in range(self._random.randint(0, 2))]
        self._layer("", middle or folders, own, components=["component"] if component else [])
        return self._files

    def _fresh(self) -> dict[str, Any]:
        """Make an object that no other of the tree equals."""
        for _ in range(50):
            obj = self._object()
            identity = (obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace", "default"))
            if identity not in self._taken or self._often(0.02):
                self._taken.add(identity)
                return obj
        return obj

    def _layer(
        self,
        folder: str,
        bases: list[str],
        objects: list[dict[str, Any]],
        *,
        component: bool = False,
        components: list[str] | None = None,
    ) -> None:
        below = [obj for base in bases for obj in self._visible[base.removeprefix("../")]]
        # A component sees what its parent will have, which is not made yet: all there is, mostly.
        self._objects = (
            [obj for known in self._visible.values() for obj in known] if component else below + objects
        )
        self._visible[folder] = below + objects if not component else []
        where = f"{folder}/" if folder else ""
        kustomization: dict[str, Any] = {}
        if component:
            kustomization = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
        resources = list(bases)
        if objects:
            self._files[f"{where}objects.yaml"] = "---\n".join(text_of(obj) for obj in objects)
            resources.append("objects.yaml")
        if resources:
            kustomization["resources"] = resources
        if components:
            kustomization["components"] = components
        features = [feature for feature in self._features() if self._often(0.22)]
        self._random.shuffle(features)
        for feature in features[:5]:
            feature(kustomization, where)
        if len(kustomization) <= (2 if component else 0):
            kustomization["namePrefix"] = "only-"
        self._files[f"{where}kustomization.yaml"] = text_of(kustomization)

    def _features(self) -> list[Callable[[dict[str, Any], str], None]]:
        return [
            self._prefix, self._suffix, self._namespace, self._labels, self._common_labels, self._annotations,
            self._images, self._replicas, self._config_maps, self._secrets, self._strategic, self._strategic,
            self._targeted, self._json, self._replacement, self._sort, self._metadata, self._old_strategic,
        ]  # fmt: skip

    def _often(self, share: float) -> bool:
        return self._random.random() < share

    def _one(self, values: Any) -> Any:
        return self._random.choice(list(values))

    def _value(self) -> Raw:
        return Raw(self._one(_SCALARS))

    def _pairs(self, values: Callable[[], Any], most: int = 3) -> dict[str, Any]:
        return {self._one(_KEYS): values() for _ in range(self._random.randint(1, most))}

    def _label(self) -> str:
        return str(self._one(("x", "y", "5", "true", "long-value")))

    # Objects.

    def _object(self) -> dict[str, Any]:
        version, kind, body = self._one(
            (
                ("apps/v1", "Deployment", self._workload),
                ("apps/v1", "StatefulSet", self._workload),
                ("batch/v1", "CronJob", lambda: {"jobTemplate": {"spec": self._workload()}}),
                ("v1", "Pod", self._pod),
                ("v1", "Service", self._service),
                ("v1", "ConfigMap", None),
                ("v1", "Secret", None),
                ("v1", "ServiceAccount", None),
                ("v1", "Namespace", None),
                ("rbac.authorization.k8s.io/v1", "RoleBinding", None),
                ("rbac.authorization.k8s.io/v1", "ClusterRole", None),
                ("networking.k8s.io/v1", "Ingress", self._ingress),
                ("example.com/v1", "Widget", self._widget),
            )
        )
        metadata: dict[str, Any] = {"name": self._one(_NAMES)}
        namespace = self._one(_SPACES)
        if namespace:
            metadata["namespace"] = namespace
        if self._often(0.4):
            metadata["labels"] = self._pairs(self._label)
        if self._often(0.3):
            metadata["annotations"] = self._pairs(self._value)
        obj: dict[str, Any] = {"apiVersion": version, "kind": kind, "metadata": metadata}
        if body:
            obj["spec"] = body()
        elif kind in ("ConfigMap", "Secret") and self._often(0.9):
            obj["data"] = self._pairs(self._value, 5)
        elif kind == "RoleBinding":
            obj["roleRef"] = {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": self._one(_NAMES),
            }
            subject = {"kind": "ServiceAccount", "name": self._one((*_NAMES, "default"))}
            obj["subjects"] = [subject | ({"namespace": self._one(_SPACES[3:])} if self._often(0.6) else {})]
        elif kind == "ClusterRole":
            obj["rules"] = [
                {"resources": ["secrets"], "resourceNames": [self._one(_NAMES)], "verbs": ["get"]}
            ]
        return obj

    def _workload(self) -> dict[str, Any]:
        spec: dict[str, Any] = {"template": {"spec": self._pod()}}
        if self._often(0.6):
            spec["replicas"] = Raw(self._one(("1", "3", '"2"')))
        if self._often(0.5):
            spec["selector"] = {"matchLabels": {"app": self._label()}}
            spec["template"]["metadata"] = {"labels": {"app": self._label()}}
        return spec

    def _pod(self) -> dict[str, Any]:
        containers = [
            self._container(name)
            for name in self._random.sample(("main", "side", "third"), self._random.randint(1, 3))
        ]
        spec: dict[str, Any] = {"containers": containers}
        if self._often(0.3):
            spec["initContainers"] = [self._container("init")]
        if self._often(0.4):
            spec["serviceAccountName"] = self._one(_NAMES)
        if self._often(0.4):
            spec["volumes"] = [
                self._one(
                    (
                        {"name": name, "configMap": {"name": self._one(_NAMES)}},
                        {"name": name, "secret": {"secretName": self._one(_NAMES)}},
                        {"name": name, "emptyDir": Raw(self._one(("", "{}", "null")))},
                    )
                )
                for name in self._random.sample(("data", "config"), self._random.randint(1, 2))
            ]
        return spec

    def _container(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name}
        if self._often(0.8):
            found["image"] = self._one(_IMAGES)
        if self._often(0.5):
            found["env"] = [self._env(key) for key in self._random.sample("ABCD", self._random.randint(1, 3))]
        if self._often(0.3):
            found["ports"] = [
                {"containerPort": port}
                | ({"protocol": self._one(("TCP", "UDP"))} if self._often(0.4) else {})
                for port in self._random.sample((80, 443, 53), self._random.randint(1, 2))
            ]
        if self._often(0.3):
            found["args"] = [self._value() for _ in range(2)]
        return found

    def _env(self, name: str) -> dict[str, Any]:
        if self._often(0.3):
            return {"name": name, "valueFrom": {"configMapKeyRef": {"name": self._one(_NAMES), "key": "a"}}}
        return {"name": name, "value": self._value()}

    def _service(self) -> dict[str, Any]:
        ports = self._random.sample(((80, "TCP"), (53, "UDP"), (53, "TCP")), self._random.randint(1, 3))
        return {
            "selector": {"app": self._label()},
            "ports": [
                {"port": port, "protocol": protocol, "name": f"{protocol.lower()}{port}"}
                for port, protocol in ports
            ],
        }

    def _ingress(self) -> dict[str, Any]:
        return {
            "rules": [
                {"http": {"paths": [{"path": "/", "backend": {"service": {"name": self._one(_NAMES)}}}]}}
            ]
        }

    def _widget(self) -> dict[str, Any]:
        return {
            "parts": [{"name": name, "size": self._value()} for name in ("a", "b")],
            "options": self._pairs(self._value),
        }

    # Features.

    def _prefix(self, into: dict[str, Any], where: str) -> None:
        into["namePrefix"] = self._one(("p-", "q-"))

    def _suffix(self, into: dict[str, Any], where: str) -> None:
        into["nameSuffix"] = self._one(("-s", "-t"))

    def _namespace(self, into: dict[str, Any], where: str) -> None:
        into["namespace"] = self._one(("far", "near", "default"))

    def _labels(self, into: dict[str, Any], where: str) -> None:
        entry: dict[str, Any] = {"pairs": self._pairs(self._label)}
        for option in ("includeSelectors", "includeTemplates"):
            if self._often(0.3):
                entry[option] = True
        into["labels"] = [entry]

    def _common_labels(self, into: dict[str, Any], where: str) -> None:
        into["commonLabels"] = self._pairs(self._label)

    def _annotations(self, into: dict[str, Any], where: str) -> None:
        into["commonAnnotations"] = self._pairs(self._label)

    def _images(self, into: dict[str, Any], where: str) -> None:
        entry: dict[str, Any] = {
            "name": self._one(("nginx", "busybox", "reg.example:5000/app/web", "app/web"))
        }
        if self._often(0.6):
            entry["newTag"] = self._one(("2.0", "latest"))
        if self._often(0.4):
            entry["newName"] = self._one(("mirror/nginx", "other"))
        if self._often(0.2):
            entry["digest"] = "sha256:def"
        into["images"] = [entry]

    def _replicas(self, into: dict[str, Any], where: str) -> None:
        known = [
            obj["metadata"]["name"] for obj in self._objects if obj["kind"] in ("Deployment", "StatefulSet")
        ]
        if not known and self._often(0.9):
            return
        into["replicas"] = [{"name": self._one(known or ("none",)), "count": self._random.randint(0, 4)}]

    def _config_maps(self, into: dict[str, Any], where: str) -> None:
        into["configMapGenerator"] = [self._generated()]

    def _secrets(self, into: dict[str, Any], where: str) -> None:
        into["secretGenerator"] = [self._generated()]

    def _generated(self) -> dict[str, Any]:
        name = self._one(("made", "made2", "made3") if self._often(0.8) else _NAMES)
        entry: dict[str, Any] = {
            "name": name,
            "literals": [f"{key}={self._label()}" for key in self._random.sample(_KEYS, 2)],
        }
        if self._often(0.3 if name in _NAMES else 0.05):
            entry["behavior"] = self._one(("create", "create", "create", "merge", "replace"))
        if self._often(0.2):
            entry["namespace"] = self._one(("far", "default"))
        if self._often(0.3):
            entry["options"] = {"disableNameSuffixHash": self._often(0.5), "labels": self._pairs(self._label)}
        return entry

    def _known(self) -> dict[str, Any]:
        return self._one(self._objects) if self._objects else self._object()

    def _strategic(self, into: dict[str, Any], where: str) -> None:
        into.setdefault("patches", []).append({"patch": text_of(self._patch(self._known()))})

    def _targeted(self, into: dict[str, Any], where: str) -> None:
        obj = self._known()
        target = {"kind": obj["kind"]} | (
            {"name": self._one((obj["metadata"]["name"], ".*b.*"))} if self._often(0.5) else {}
        )
        entry: dict[str, Any] = {"patch": text_of(self._patch(obj)), "target": target}
        if self._often(0.15):
            entry["options"] = {"allowNameChange": True}
        into.setdefault("patches", []).append(entry)

    def _old_strategic(self, into: dict[str, Any], where: str) -> None:
        self._files[f"{where}patch.yaml"] = text_of(self._patch(self._known()))
        into["patchesStrategicMerge"] = ["patch.yaml"]

    def _patch(self, obj: dict[str, Any]) -> dict[str, Any]:
        metadata = {key: obj["metadata"][key] for key in ("name", "namespace") if key in obj["metadata"]}
        if self._often(0.3):
            metadata[self._one(("labels", "annotations"))] = self._pairs(self._value)
        patch: dict[str, Any] = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}
        if self._often(0.06):
            # What is gone is patched again only now and then, since then the build must fail.
            for known in (self._objects, *self._visible.values()):
                if obj in known and not self._often(0.05):
                    known.remove(obj)
            return {"$patch": "delete", **patch}
        for field in ("spec", "data"):
            if field in obj:
                other = self._object_like(obj)
                patch[field] = self._holes(other[field])
        return patch

    def _object_like(self, obj: dict[str, Any]) -> dict[str, Any]:
        bodies = {
            "Deployment": self._workload,
            "StatefulSet": self._workload,
            "CronJob": lambda: {"jobTemplate": {"spec": self._workload()}},
            "Pod": self._pod,
            "Service": self._service,
            "Ingress": self._ingress,
            "Widget": self._widget,
        }
        return {"spec": bodies.get(obj["kind"], dict)(), "data": self._pairs(self._value, 5)}

    def _holes(self, value: Any, depth: int = 0) -> Any:
        """Put nulls and directives into a part of a patch."""
        if isinstance(value, dict):
            found = {
                key: None
                if key not in ("name", "containerPort", "port") and self._often(0.06)
                else self._holes(item, depth + 1)
                for key, item in value.items()
                if key in ("name", "containerPort", "port") or not self._often(0.1)
            }
            if depth and self._often(0.06):
                found["$patch"] = self._one(("delete", "replace", "merge"))
            return found
        if isinstance(value, list):
            items = [self._holes(item, depth + 1) for item in value]
            return (
                [{"$patch": self._one(("replace", "delete"))}, *items]
                if depth and self._often(0.04)
                else items
            )
        return value

    def _json(self, into: dict[str, Any], where: str) -> None:
        obj = self._known()
        paths = ["/metadata/labels", "/metadata/annotations/new", "/new", "/metadata/name"]
        paths += [f"/{field}/new" for field in ("spec", "data") if field in obj]
        operations = [
            {
                "op": self._one(("add",) * 20 + ("replace", "remove")),
                "path": self._one(paths),
                "value": self._value(),
            }
            for _ in range(self._random.randint(1, 2))
        ]
        for operation in operations:
            if operation["path"] == "/metadata/labels":
                operation["value"] = self._pairs(self._label)
            elif operation["path"] == "/metadata/name":
                operation.update(op="replace", value="renamed")
        target = {"kind": obj["kind"], "name": obj["metadata"]["name"]}
        into.setdefault("patches", []).append({"patch": text_of(operations), "target": target})

    def _replacement(self, into: dict[str, Any], where: str) -> None:
        source, target = self._known(), self._known()
        if source not in self._objects and self._often(0.95):
            return
        paths = [
            "metadata.name",
            "kind",
            *(f"data.{key}" for key in source.get("data", ()) if "." not in key),
        ]
        path = self._one(paths if self._often(0.9) else ("data.none", "spec.replicas"))
        to = self._one(("metadata.annotations.from", "data.b", "spec.replicas", "metadata.labels.from"))
        if "template" in target.get("spec", ()) and self._often(0.6):
            to = "spec.template.spec.containers.*.image"
        select = {"kind": target["kind"], "name": target["metadata"]["name"]}
        into["replacements"] = [
            {
                "source": {"kind": source["kind"], "name": source["metadata"]["name"], "fieldPath": path},
                "targets": [{"select": select, "fieldPaths": [to], "options": {"create": self._often(0.9)}}],
            }
        ]

    def _sort(self, into: dict[str, Any], where: str) -> None:
        into["sortOptions"] = {"order": self._one(("legacy", "fifo"))}

    def _metadata(self, into: dict[str, Any], where: str) -> None:
        options = ("managedByLabel", "originAnnotations", "transformerAnnotations")
        into["buildMetadata"] = self._random.sample(options, self._random.randint(1, 2))
