"""The objects of an installation, in both profiles."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gitwright.api import crds, manifests, meta
from gitwright.core.objects import JSON, key_of

KEY = "an-artifact-key-of-the-test"
TOKEN = "a-metrics-token-of-the-test"


def made(lockdown: bool = False, **more: Any) -> list[JSON]:
    """Make an installation with keys."""
    given = {"artifact_key": KEY, "metrics_token": TOKEN} | more
    return manifests.installation("image:1", "gitops", "0.1.0", lockdown, **given)


def of(objects: list[JSON], kind: str, name: str = "") -> list[JSON]:
    """Pick objects of a kind, and of a name when one is given."""
    return [obj for obj in objects if obj["kind"] == kind and name in ("", obj["metadata"]["name"])]


def engine_rules(objects: list[JSON]) -> list[tuple[str, JSON]]:
    """Give every rule that bindings give to the engine's account, with the namespace it is for."""
    found = []
    for binding in of(objects, "ClusterRoleBinding") + of(objects, "RoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "gitwright", "namespace": "gitops"}]
        ref = binding["roleRef"]
        roles = of(objects, ref["kind"], ref["name"])
        if not roles:
            assert ref["name"] == "cluster-admin"
            found.append(("", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}))
        for role in roles:
            found += [(binding["metadata"].get("namespace", ""), rule) for rule in role["rules"]]
    return found


@pytest.mark.parametrize("lockdown", [False, True])
def test_every_object_is_marked_as_ours_and_named_once(lockdown: bool) -> None:
    """Every object carries our labels and an identity of its own, and is in the namespace asked for."""
    objects = made(lockdown)
    assert len({key_of(obj) for obj in objects}) == len(objects)
    for obj in objects:
        labels = obj["metadata"]["labels"]
        assert labels[meta.PART_OF_LABEL] == labels[meta.MANAGED_BY_LABEL] == "gitwright"
        assert labels["app.kubernetes.io/version"] == "0.1.0"
        assert obj["metadata"].get("namespace", "gitops") == "gitops"


@pytest.mark.parametrize("lockdown", [False, True])
def test_definitions_come_first(lockdown: bool) -> None:
    """The namespace and the CRDs come before everything that needs them, the Deployment last."""
    kinds = [obj["kind"] for obj in made(lockdown)]
    assert kinds[: 1 + len(crds.crds())] == ["Namespace"] + ["CustomResourceDefinition"] * len(crds.crds())
    assert kinds[-1] == "Deployment"


def test_by_default_the_account_is_bound_as_flux_binds_its_own() -> None:
    """The default profile binds the engine's account to cluster-admin."""
    assert ("", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}) in engine_rules(made())


def test_lockdown_gives_few_rights() -> None:
    """Under lockdown the account reads, impersonates, and writes its own kinds, events and leases only."""
    reading = {"get", "list", "watch"}
    own = {("source.toolkit.fluxcd.io", "gitrepositories"), ("kustomize.toolkit.fluxcd.io", "kustomizations")}
    for namespace, rule in engine_rules(made(lockdown=True)):
        writes = set(rule["verbs"]) - reading
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                if (group, resource.removesuffix("/status")) in own:
                    allowed = {"patch", "update"}
                elif (group, resource) == ("", "events"):
                    allowed = {"create", "patch"}
                elif (group, resource) == ("", "serviceaccounts"):
                    allowed = {"impersonate"}
                elif (group, resource, namespace) == ("coordination.k8s.io", "leases", "gitops"):
                    allowed = {"create"} if "resourceNames" not in rule else {"patch", "update"}
                else:
                    allowed = set()
                assert writes <= allowed, (group, resource)


def test_lockdown_cannot_read_a_secret_by_name() -> None:
    """Under lockdown no rule allows a get of Secrets or ConfigMaps, so references are read as the tenant."""
    for _, rule in engine_rules(made(lockdown=True)):
        core = set(rule["apiGroups"]) & {"", "*"}
        named = set(rule["resources"]) & {"*", "secrets", "configmaps"}
        if core and named:
            assert set(rule["verbs"]) == {"list", "watch"}


@pytest.mark.parametrize("lockdown", [False, True])
def test_the_rights_of_the_other_profile_are_named_for_deletion(lockdown: bool) -> None:
    """What one profile has and the other has not is named, above all the binding to cluster-admin."""
    new, old = ({key_of(obj) for obj in made(profile)} for profile in (lockdown, not lockdown))
    named = {key_of(obj) for obj in manifests.superseded("gitops", lockdown)}
    assert named == old - new
    bound = {key.name for key in named if key.kind == "ClusterRoleBinding"}
    assert bound == ({"gitwright-cluster-admin"} if lockdown else {"gitwright-watch"})


def test_leases_are_limited_by_name() -> None:
    """Only the leases of Flux's controllers may be changed."""
    (role,) = of(made(lockdown=True), "Role")
    changing = [rule for rule in role["rules"] if "update" in rule["verbs"]]
    assert [rule["resourceNames"] for rule in changing] == [[meta.SOURCE_LEASE, meta.KUSTOMIZE_LEASE]]


@pytest.mark.parametrize("lockdown", [False, True])
def test_the_pod_is_restricted(lockdown: bool) -> None:
    """The pod meets the restricted profile, has a read-only root, and is probed."""
    (deployment,) = of(made(lockdown), "Deployment")
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    context = container["securityContext"]
    assert context["runAsNonRoot"] is context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert template["spec"]["enableServiceLinks"] is False
    assert ("--lockdown" in container["args"]) is lockdown
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in template["spec"]["volumes"]}


def test_service_and_policies_select_the_pod() -> None:
    """The Service and every NetworkPolicy select the Deployment's pods, by labels that never change."""
    objects = made()
    (deployment,) = of(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert "app.kubernetes.io/version" not in selector
    (service,) = of(objects, "Service")
    policies = of(objects, "NetworkPolicy")
    chosen = [selector, service["spec"]["selector"]]
    chosen += [policy["spec"]["podSelector"]["matchLabels"] for policy in policies]
    assert all(wanted.items() <= labels.items() for wanted in chosen)


def test_nothing_comes_in_but_what_is_named() -> None:
    """One policy denies all, the others open artifacts to the namespace and metrics to the cluster."""
    policies = {obj["metadata"]["name"]: obj["spec"] for obj in of(made(), "NetworkPolicy")}
    deny = policies.pop("gitwright-default-deny")
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    opened = {
        (rule["ports"][0]["port"], json.dumps(rule["from"]))
        for spec in policies.values()
        for rule in spec.get("ingress", [])
    }
    assert opened == {(9090, '[{"podSelector": {}}]'), (9440, '[{"namespaceSelector": {}}]')}


def test_the_artifact_address_is_that_of_the_service() -> None:
    """The address that artifacts are advertised at leads to the port they are served on."""
    objects = made()
    (service,) = of(objects, "Service")
    (deployment,) = of(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "--storage-adv-addr=gitwright.$(RUNTIME_NAMESPACE).svc.cluster.local." in container["args"]
    assert "RUNTIME_NAMESPACE" in {variable["name"] for variable in container["env"]}
    (port,) = service["spec"]["ports"]
    targets = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
    assert service["metadata"]["name"] == "gitwright"
    assert port["port"] == 80
    assert f"--storage-addr=:{targets[port['targetPort']]}" in container["args"]


def test_keys_are_in_the_secret_only() -> None:
    """Keys are in one Secret, encoded, mounted as files, and in no other object."""
    objects = made()
    (secret,) = of(objects, "Secret")
    assert base64.b64decode(secret["data"]["artifact-key"]).decode() == KEY
    assert base64.b64decode(secret["data"]["metrics-token"]).decode() == TOKEN
    rest = json.dumps([obj for obj in objects if obj is not secret])
    for value in (*secret["data"].values(), KEY, TOKEN):
        assert value not in rest


def test_without_keys_no_flag_names_them() -> None:
    """Without a key the engine is not pointed at a file that is not there."""
    objects = made(artifact_key="", metrics_token="")
    (secret,) = of(objects, "Secret")
    (deployment,) = of(objects, "Deployment")
    assert secret["data"] == {}
    assert "/etc/gitwright/keys/" not in json.dumps(
        deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    )


def test_two_calls_share_nothing() -> None:
    """Changing one installation's objects does not change the next one's."""
    first, second = made(), made()
    for obj in first:
        obj["metadata"]["labels"]["x"] = "y"
        obj.setdefault("spec", {})["x"] = "y"
    assert made() == second


@pytest.mark.parametrize(("image", "namespace"), [("", "a"), (" ", "a"), ("a", "")])
def test_blank_names_are_refused(image: str, namespace: str) -> None:
    """Without an image or a namespace there is no installation."""
    with pytest.raises(ValueError, match="is empty"):
        manifests.installation(image, namespace, artifact_key=KEY)


@pytest.mark.parametrize(
    ("version", "label"),
    [("1.2.3", "1.2.3"), ("0.1.0.dev0+g12ab", "0.1.0.dev0-g12ab"), ("", None), ("+" * 80, None)],
)
def test_the_version_becomes_a_label(version: str, label: str | None) -> None:
    """A version is made fit for a label, or left out."""
    assert manifests.labels_of(version).get("app.kubernetes.io/version") == label
