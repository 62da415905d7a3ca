"""The objects of an installation: what `gitwright install` applies and `--export` prints.

Role in the flow: pure; from an image and a few names to a list of objects in the order of
application. It must not know a cluster, and makes no random value: keys enter by argument.

Rights. By default the engine's account is bound as Flux's controllers are: to `cluster-admin`
and to a role over Flux's kinds (corpus/flux-install). With `lockdown` it gets

- its own kinds: read, and write of status and finalizers;
- `list` and `watch`, without `get`, of everything. The engine learns of drift and health by
  watches of its owner labels, of any kind a tenant may bring, and RBAC can neither leave out
  a kind nor limit a watch to a label; so this includes Secrets. Without `get`, a read of a
  Secret or ConfigMap by name works only as the tenant, which the API server then enforces
  (S28). The rule stands in a role of its own, so that a cluster whose tenants bring few kinds
  may narrow it: where a watch is not allowed, the engine looks as the tenant;
- impersonation of ServiceAccounts. The API server asks for exactly that right, in the
  account's namespace, for a user name of the form `system:serviceaccount:<namespace>:<name>`,
  and adds the account's groups by itself;
- Events, and the leases in its own namespace.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final

from gitwright.api import crds, meta
from gitwright.api.kinds import KINDS
from gitwright.core.objects import JSON, key_of

NAME: Final = meta.PRODUCT
FIELD_MANAGER: Final = meta.INSTALL_MANAGER
ARTIFACT_PORT: Final = 9090
HEALTH_PORT: Final = 9440
KEY_SECRET: Final = "gitwright-keys"  # noqa: S105 - the name of a Secret, no secret
LEASES: Final = (meta.SOURCE_LEASE, meta.KUSTOMIZE_LEASE)
GRACE_SECONDS: Final = 60

_KEYS_PATH: Final = "/etc/gitwright/keys"
_DATA_PATH: Final = "/data"
_SELECTOR: Final = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "engine"}
_RBAC: Final = "rbac.authorization.k8s.io"
_READ: Final = ("get", "list", "watch")


def installation(
    image: str,
    namespace: str = "flux-system",
    version: str = "",
    lockdown: bool = False,
    *,
    artifact_key: str = "",
    metrics_token: str = "",
) -> list[JSON]:
    """Give all objects of an installation, in the order of application.

    Args:
        image: container image of the engine.
        namespace: where it runs; leases of Flux's controllers are sought there.
        version: written into the label `app.kubernetes.io/version`; none when empty.
        lockdown: strict settings, and an account with few rights.
        artifact_key: secret text that makes artifact addresses unguessable; when empty, the engine
            makes a key of its own, a new one with each pod.
        metrics_token: secret text that `/metrics` asks for; empty leaves `/metrics` shut.

    Raises:
        ValueError: image or namespace is empty.
    """
    for what, value in (("image", image), ("namespace", namespace)):
        if not value.strip():
            raise ValueError(f"{what} is empty")
    labels = labels_of(version)
    objects = [
        _namespace(namespace),
        *crds.crds(),
        _quota(namespace),
        _account(namespace),
        *(_lockdown_rights(namespace) if lockdown else _default_rights(namespace)),
        *_user_roles(),
        _leases_role(namespace),
        _binding("RoleBinding", f"{NAME}-leases", "Role", f"{NAME}-leases", namespace, namespace),
        _keys(namespace, artifact_key, metrics_token),
        _service(namespace),
        *_network_policies(namespace),
        _deployment(image, namespace, labels, arguments(lockdown, bool(artifact_key), bool(metrics_token))),
    ]
    for obj in objects:
        metadata = obj["metadata"]
        metadata["labels"] = labels | metadata.get("labels", {})
    return objects


def superseded(namespace: str, lockdown: bool) -> list[JSON]:
    """Give what an installation of the other profile has and this one has not.

    `install` must delete these: without that, lockdown over a default installation
    would leave the account bound to `cluster-admin`.

    Args:
        namespace: where the engine runs.
        lockdown: the profile that is being installed.
    """
    profiles = {False: _default_rights(namespace), True: _lockdown_rights(namespace)}
    kept = {key_of(obj) for obj in profiles[lockdown]}
    return [obj for obj in profiles[not lockdown] if key_of(obj) not in kept]


def labels_of(version: str = "") -> dict[str, str]:
    """Give the labels that every object of an installation carries."""
    labels = {meta.PART_OF_LABEL: meta.PRODUCT, meta.MANAGED_BY_LABEL: meta.PRODUCT}
    # A label value holds fewer characters than a Python version, such as `0.1.0+g12ab`.
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", version)[:63].strip("._-")
    if clean:
        labels["app.kubernetes.io/version"] = clean
    return labels


def _namespaced(api_version: str, kind: str, name: str, namespace: str) -> JSON:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    }


def _namespace(namespace: str) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace,
            "labels": {
                "pod-security.kubernetes.io/warn": "restricted",
                "pod-security.kubernetes.io/warn-version": "latest",
            },
        },
    }


def _quota(namespace: str) -> JSON:
    """Some providers admit the priority class of the Deployment only where a quota names it."""
    return _namespaced("v1", "ResourceQuota", f"{NAME}-critical-pods", namespace) | {
        "spec": {
            "hard": {"pods": "1000"},
            "scopeSelector": {
                "matchExpressions": [
                    {
                        "operator": "In",
                        "scopeName": "PriorityClass",
                        "values": ["system-node-critical", "system-cluster-critical"],
                    }
                ]
            },
        }
    }


def _account(namespace: str) -> JSON:
    return _namespaced("v1", "ServiceAccount", NAME, namespace)


def _rule(groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str]) -> JSON:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}


def _role(name: str, rules: Sequence[JSON], labels: dict[str, str] | None = None) -> JSON:
    metadata: JSON = {"name": name}
    if labels:
        metadata["labels"] = labels
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": metadata,
        "rules": list(rules),
    }


def _binding(kind: str, name: str, role_kind: str, role: str, account: str, namespace: str = "") -> JSON:
    """Bind a role to the engine's account; `account` is the account's namespace."""
    metadata: JSON = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": _RBAC, "kind": role_kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": account}],
    }


def _bound(role: JSON, namespace: str) -> list[JSON]:
    name = role["metadata"]["name"]
    return [role, _binding("ClusterRoleBinding", name, "ClusterRole", name, namespace)]


def _default_rights(namespace: str) -> list[JSON]:
    """As Flux binds its controllers; source: corpus/flux-install, cluster-reconciler and crd-controller."""
    role = _role(
        f"{NAME}-engine",
        [
            _rule(meta.TOOLKIT_GROUPS, ["*"], ["*"]),
            _rule([""], ["namespaces", "secrets", "configmaps", "serviceaccounts"], _READ),
            _rule([""], ["events"], ["create", "patch"]),
        ],
    )
    return [
        *_bound(role, namespace),
        _binding("ClusterRoleBinding", f"{NAME}-cluster-admin", "ClusterRole", "cluster-admin", namespace),
    ]


def _lockdown_rights(namespace: str) -> list[JSON]:
    own = [
        _rule([kind.gvk.group], [kind.plural, f"{kind.plural}/status"], ["get", "patch", "update"])
        for kind in KINDS
    ]
    engine = _role(
        f"{NAME}-engine",
        [
            _rule(meta.TOOLKIT_GROUPS, ["*"], _READ),
            *own,
            _rule([""], ["events"], ["create", "patch"]),
            _rule([""], ["serviceaccounts"], ["impersonate"]),
        ],
    )
    watch = _role(f"{NAME}-watch", [_rule(["*"], ["*"], ["list", "watch"])])
    return [*_bound(engine, namespace), *_bound(watch, namespace)]


def _user_roles() -> list[JSON]:
    """Let the roles view, edit and admin reach our kinds, as Flux's flux-view and flux-edit do."""
    groups = sorted({kind.gvk.group for kind in KINDS})
    prefix = f"{_RBAC}/aggregate-to-"
    edit = ["create", "delete", "deletecollection", "patch", "update"]
    return [
        _role(
            f"{NAME}-edit",
            [_rule(groups, ["*"], edit)],
            {f"{prefix}admin": "true", f"{prefix}edit": "true"},
        ),
        _role(
            f"{NAME}-view",
            [_rule(groups, ["*"], _READ)],
            {f"{prefix}admin": "true", f"{prefix}edit": "true", f"{prefix}view": "true"},
        ),
    ]


def _leases_role(namespace: str) -> JSON:
    leases = _rule(["coordination.k8s.io"], ["leases"], ["get", "watch", "list", "patch", "update"])
    return _namespaced(f"{_RBAC}/v1", "Role", f"{NAME}-leases", namespace) | {
        "rules": [
            # The name of an object that does not exist yet cannot limit its creation.
            _rule(["coordination.k8s.io"], ["leases"], ["create"]),
            leases | {"resourceNames": list(LEASES)},
        ]
    }


def _keys(namespace: str, artifact_key: str, metrics_token: str) -> JSON:
    keys = {"artifact-key": artifact_key, "metrics-token": metrics_token}
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items() if value}
    return _namespaced("v1", "Secret", KEY_SECRET, namespace) | {"type": "Opaque", "data": encoded}


def _service(namespace: str) -> JSON:
    return _namespaced("v1", "Service", NAME, namespace) | {
        "spec": {
            "type": "ClusterIP",
            "selector": dict(_SELECTOR),
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
        }
    }


def _network_policies(namespace: str) -> list[JSON]:
    """Nothing reaches the engine's pod but what is named here (S5).

    Outward everything is allowed: sources are anywhere, and addresses that must not be
    reached are refused by the engine itself, before and after name resolution (S36).
    """

    def policy(name: str, spec: JSON) -> JSON:
        made = _namespaced("networking.k8s.io/v1", "NetworkPolicy", f"{NAME}-{name}", namespace)
        return made | {"spec": {"podSelector": {"matchLabels": dict(_SELECTOR)}} | spec}

    def inward(port: int, peer: JSON) -> JSON:
        return {
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": [{"port": port, "protocol": "TCP"}]}],
        }

    return [
        policy("default-deny", {"policyTypes": ["Ingress", "Egress"]}),
        policy("allow-egress", {"policyTypes": ["Egress"], "egress": [{}]}),
        policy("allow-artifacts", inward(ARTIFACT_PORT, {"podSelector": {}})),
        policy("allow-scraping", inward(HEALTH_PORT, {"namespaceSelector": {}})),
    ]


def _deployment(image: str, namespace: str, labels: dict[str, str], args: list[str]) -> JSON:
    made = _namespaced("apps/v1", "Deployment", NAME, namespace)
    made["metadata"]["labels"] = dict(_SELECTOR)
    pod = {
        "serviceAccountName": NAME,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        # Variables of a Service named gitwright would look like settings.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "fsGroup": 1337,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(image, args)],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "keys", "secret": {"secretName": KEY_SECRET, "defaultMode": 0o440}},
        ],
    }
    return made | {
        "spec": {
            "replicas": 1,
            # Artifacts are on the pod's own disk: two pods would serve two truths.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": dict(_SELECTOR)},
            "template": {
                "metadata": {"labels": labels | dict(_SELECTOR)},
                "spec": pod,
            },
        }
    }


def arguments(lockdown: bool, key: bool, metrics: bool) -> list[str]:
    """Give the command line of the engine's container.

    Args:
        lockdown: turn the strict settings on.
        key: there is a key for artifact addresses.
        metrics: there is a token for `/metrics`.
    """
    given = [
        "run",
        f"--storage-path={_DATA_PATH}",
        f"--storage-addr=:{ARTIFACT_PORT}",
        f"--storage-adv-addr={NAME}.$(RUNTIME_NAMESPACE).svc.cluster.local.",
        f"--health-addr=:{HEALTH_PORT}",
    ]
    if key:
        given.append(f"--artifact-key-file={_KEYS_PATH}/artifact-key")
    if metrics:
        given.append(f"--metrics-token-file={_KEYS_PATH}/metrics-token")
    if lockdown:
        given.append("--lockdown")
    return given


def _container(image: str, args: list[str]) -> JSON:
    def probe(path: str) -> JSON:
        return {"httpGet": {"path": path, "port": "healthz"}}

    return {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": [
            {
                "name": "RUNTIME_NAMESPACE",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            },
            # git and ssh want a home, and the root of the container is read-only.
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        ],
        "ports": [
            {"name": "http", "containerPort": ARTIFACT_PORT, "protocol": "TCP"},
            {"name": "healthz", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "2", "memory": "2Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": _DATA_PATH},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - as above
            {"name": "keys", "mountPath": _KEYS_PATH, "readOnly": True},
        ],
    }
