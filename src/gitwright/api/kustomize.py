"""kustomize.toolkit.fluxcd.io: Kustomization, its spec and status.

Role in the flow: what rendering, planning, applying and waiting are told to do, and what
they write down. It knows no cluster. Source: spec/flux-v2.md 3.1, 3.2 and 3.6; the CRD
of Flux's kustomize-controller.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from gitwright.api import meta
from gitwright.api.base import (
    DURATION,
    LocalObjectReference,
    Resource,
    Rule,
    Status,
    Value,
    doc,
    seconds,
)
from gitwright.core.objects import GVK, ObjectKey

VERSION: Final = "v1"
API_VERSION: Final = f"{meta.KUSTOMIZE_GROUP}/{VERSION}"

# A health check without apiVersion means a workload (spec/flux-v2.md 3.1, healthChecks).
DEFAULT_HEALTH_API_VERSION: Final = "apps/v1"
# Source: spec/flux-v2.md 3.1, timeout.
TIMEOUT_MARGIN: Final = 30.0
TIMEOUT_FLOOR: Final = 30.0

DeletionPolicy = Literal["MirrorPrune", "Delete", "WaitForTermination", "Orphan"]
SourceKind = Literal["OCIRepository", "GitRepository", "Bucket", "ExternalArtifact"]
SubstituteStrategy = Literal["WithVariables", "Always"]

_ONE_KUBECONFIG: Final = (
    "exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified"
)


class SourceReference(Value, frozen=True, kw_only=True):
    """The source that the files come from."""

    api_version: Annotated[str, doc("API version of the source; not needed.")] = ""
    kind: Annotated[SourceKind, doc("Kind of the source.")]
    name: Annotated[str, doc("Name of the source.")]
    namespace: Annotated[str, doc("Namespace of the source; that of the Kustomization when empty.")] = ""


class DependencyReference(Value, frozen=True, kw_only=True):
    """A Kustomization that must be ready first."""

    name: Annotated[str, doc("Name of the Kustomization.")]
    namespace: Annotated[str, doc("Its namespace; that of this Kustomization when empty.")] = ""
    ready_expr: Annotated[
        str,
        doc("CEL expression that says when it is ready, over `self` and `dep`; it replaces the usual check."),
    ] = ""


class CommonMetadata(Value, frozen=True, kw_only=True):
    """Labels and annotations for all objects; they win over those in the files."""

    annotations: Annotated[dict[str, str], doc("Annotations to set.")] | None = None
    labels: (
        Annotated[dict[str, str], doc("Labels to set, on the objects only, not in pod templates.")] | None
    ) = None


class Decryption(Value, frozen=True, kw_only=True):
    """How encrypted files and values are decrypted."""

    provider: Annotated[Literal["sops"], doc("The tool they were encrypted with.")]
    secret_ref: (
        Annotated[LocalObjectReference, doc("Secret with the keys, each under a name that tells its kind.")]
        | None
    ) = None
    service_account_name: Annotated[
        str, doc("ServiceAccount to ask a key service with; a static credential in the Secret wins.")
    ] = ""


class SecretKeyReference(Value, frozen=True, kw_only=True):
    """A key of a Secret."""

    name: Annotated[str, doc("Name of the Secret.")]
    key: Annotated[str, doc("Key in the Secret; `value`, then `value.yaml`, when empty.")] = ""


class KubeConfigReference(Value, frozen=True, kw_only=True):
    """Access to another cluster."""

    config_map_ref: (
        Annotated[
            LocalObjectReference,
            doc(
                "ConfigMap that says how to get access without a Secret: `provider`, `cluster`, "
                "`address`, `ca.crt`, `audiences`, `serviceAccountName`."
            ),
        ]
        | None
    ) = None
    secret_ref: Annotated[SecretKeyReference, doc("Secret with a kubeconfig file.")] | None = None


class Selector(Value, frozen=True, kw_only=True):
    """Picks objects; every field that is set must match. Texts are anchored regular expressions."""

    group: Annotated[str, doc("API group.")] = ""
    version: Annotated[str, doc("API version.")] = ""
    kind: Annotated[str, doc("Kind.")] = ""
    name: Annotated[str, doc("Name.")] = ""
    namespace: Annotated[str, doc("Namespace.")] = ""
    annotation_selector: Annotated[str, doc("Annotations, written as a label selector.")] = ""
    label_selector: Annotated[str, doc("Labels, written as a label selector.")] = ""


class Patch(Value, frozen=True, kw_only=True):
    """A change to built objects."""

    patch: Annotated[str, doc("A strategic merge patch, or a list of JSON patch operations, as YAML.")]
    target: (
        Annotated[Selector, doc("The objects to change; by name and kind of the patch when empty.")] | None
    ) = None


class Image(Value, frozen=True, kw_only=True):
    """Another name, tag or digest for a container image."""

    name: Annotated[str, doc("The image's name in the files, without tag.")]
    new_name: Annotated[str, doc("Name to put instead.")] = ""
    new_tag: Annotated[str, doc("Tag to put instead.")] = ""
    digest: Annotated[str, doc("Digest to put instead of a tag; wins over newTag.")] = ""


class HealthCheck(Value, frozen=True, kw_only=True):
    """An object whose health is waited for."""

    api_version: Annotated[str, doc("API version of the object; apps/v1 when empty.")] = ""
    kind: Annotated[str, doc("Kind of the object.")]
    name: Annotated[str, doc("Name of the object.")]
    namespace: Annotated[str, doc("Namespace of the object; that of the Kustomization when empty.")] = ""

    @property
    def gvk(self) -> GVK:
        """Group, version and kind, default filled in."""
        return GVK.parse(self.api_version or DEFAULT_HEALTH_API_VERSION, self.kind)


class CustomHealthCheck(Value, frozen=True, kw_only=True):
    """How to tell the health of a kind that does not follow the conventions; CEL over the object's fields."""

    api_version: Annotated[str, doc("API version of the kind; only its group counts.")]
    kind: Annotated[str, doc("The kind; every kind of the group when empty.")] = ""
    in_progress: Annotated[str, doc("True while the object is not there yet.")] = ""
    failed: Annotated[str, doc("True when it cannot get there.")] = ""
    current: Annotated[str, doc("True when it is as its spec wants it.")]


class IgnoreRule(Value, frozen=True, kw_only=True):
    """Fields that others may change."""

    paths: Annotated[tuple[str, ...], doc("JSON pointers (RFC 6901), such as `/spec/replicas`.")]
    target: Annotated[Selector, doc("The objects it is for; all when empty.")] | None = None


class SubstituteReference(Value, frozen=True, kw_only=True):
    """A ConfigMap or Secret whose data are variables."""

    kind: Annotated[Literal["Secret", "ConfigMap"], doc("Kind of the object.")]
    name: Annotated[
        str,
        doc("Name of the object, in the namespace of the Kustomization.", min_length=1, max_length=253),
    ]
    optional: Annotated[bool, doc("Go on without it when it does not exist.", default=False)] = False


class PostBuild(Value, frozen=True, kw_only=True):
    """What happens to the built YAML before it is applied."""

    substitute: (
        Annotated[dict[str, str], doc("Variables and their values; they win over those of substituteFrom.")]
        | None
    ) = None
    substitute_from: Annotated[
        tuple[SubstituteReference, ...], doc("Objects that hold variables; a later one wins.")
    ] = ()
    substitute_strategy: (
        Annotated[
            SubstituteStrategy,
            doc("WithVariables (the default): only if there is a variable at all. Always: in any case."),
        ]
        | None
    ) = None


class KustomizationSpec(Value, frozen=True, kw_only=True):
    """What to apply from where, how often, and what to do about health, failures and removal."""

    common_metadata: Annotated[CommonMetadata, doc("Labels and annotations for all objects.")] | None = None
    depends_on: Annotated[
        tuple[DependencyReference, ...], doc("Kustomizations that must be ready before this one is applied.")
    ] = ()
    decryption: Annotated[Decryption, doc("How to decrypt what is encrypted in the files.")] | None = None
    interval: Annotated[
        str,
        doc("How often to run again at least, about; a duration such as `10m`.", pattern=DURATION),
    ]
    retry_interval: Annotated[
        str,
        doc("How soon to try again after a failure; a duration, the interval when empty.", pattern=DURATION),
    ] = ""
    kube_config: (
        Annotated[
            KubeConfigReference,
            doc(
                "Apply to another cluster; with serviceAccountName, as that account of it.",
                rules=(
                    Rule(rule="has(self.configMapRef) || has(self.secretRef)", message=_ONE_KUBECONFIG),
                    Rule(rule="!has(self.configMapRef) || !has(self.secretRef)", message=_ONE_KUBECONFIG),
                ),
            ),
        ]
        | None
    ) = None
    path: Annotated[str, doc("Directory of the source to build; its root when empty.")] = ""
    post_build: Annotated[PostBuild, doc("Substitution of variables in the built YAML.")] | None = None
    prune: Annotated[bool, doc("Delete objects that are no longer in the files.")]
    deletion_policy: (
        Annotated[
            DeletionPolicy,
            doc(
                "What becomes of the applied objects when the Kustomization is deleted. "
                "MirrorPrune (the default): as spec.prune says. Delete: deleted. "
                "WaitForTermination: deleted and waited for. Orphan: kept."
            ),
        ]
        | None
    ) = None
    health_checks: Annotated[
        tuple[HealthCheck, ...], doc("Objects to wait for; not looked at when wait is true.")
    ] = ()
    name_prefix: Annotated[str, doc("Put before the name of every object.", min_length=1, max_length=200)] = (
        ""
    )
    name_suffix: Annotated[str, doc("Put after the name of every object.", min_length=1, max_length=200)] = ""
    patches: Annotated[tuple[Patch, ...], doc("Changes to built objects, in this order.")] = ()
    images: Annotated[tuple[Image, ...], doc("Other names, tags or digests for container images.")] = ()
    service_account_name: Annotated[
        str, doc("ServiceAccount of this namespace to apply as; the engine's own account when empty.")
    ] = ""
    source_ref: Annotated[SourceReference, doc("The source that the files come from.")]
    suspend: Annotated[bool, doc("Leave everything as it is; false when empty.")] = False
    target_namespace: Annotated[
        str, doc("Namespace to put all objects into.", min_length=1, max_length=63)
    ] = ""
    timeout: Annotated[
        str,
        doc(
            "Time limit of building, applying and waiting; a duration, the interval less 30s when empty, "
            "and never less than 30s.",
            pattern=DURATION,
        ),
    ] = ""
    force: Annotated[
        bool, doc("Delete and create an object anew when an immutable field changes.", default=False)
    ] = False
    wait: Annotated[bool, doc("Wait until every applied object is healthy; false when empty.")] = False
    components: Annotated[
        tuple[str, ...], doc("Paths of kustomize components to add, relative to path.")
    ] = ()
    ignore_missing_components: Annotated[
        bool, doc("Leave out components that do not exist; false when empty.")
    ] = False
    build_metadata: Annotated[
        tuple[
            Annotated[
                Literal["originAnnotations", "transformerAnnotations"],
                doc("One of originAnnotations and transformerAnnotations."),
            ],
            ...,
        ],
        doc("Annotations that say where each built object comes from, and what changed it."),
    ] = ()
    health_check_exprs: Annotated[
        tuple[CustomHealthCheck, ...],
        doc("How to tell the health of custom kinds; used with wait and healthChecks."),
    ] = ()
    ignore: Annotated[
        tuple[IgnoreRule, ...], doc("Fields that others may change without it being repaired.")
    ] = ()


class ResourceRef(Value, frozen=True, kw_only=True):
    """One applied object."""

    id: Annotated[str, doc("The object: `<namespace>_<name>_<group>_<kind>`.")]
    v: Annotated[str, doc("API version of the object's kind, without group.")]


class ResourceInventory(Value, frozen=True, kw_only=True):
    """All applied objects."""

    entries: Annotated[tuple[ResourceRef, ...], doc("The applied objects.")]


class Snapshot(Value, frozen=True, kw_only=True):
    """One result that was applied or tried, and when."""

    digest: Annotated[str, doc("Checksum of the built YAML, `<algorithm>:<hexadecimal>`.")]
    first_reconciled: Annotated[str, doc("When it was first tried (RFC 3339).", format="date-time")]
    last_reconciled: Annotated[str, doc("When it was last tried (RFC 3339).", format="date-time")]
    last_reconciled_duration: Annotated[str, doc("How long the last try took, such as `1.5s`.")]
    last_reconciled_status: Annotated[str, doc("Reason of the condition Ready after the last try.")]
    total_reconciliations: Annotated[int, doc("How often it was tried.", format="int64")]
    metadata: Annotated[dict[str, str], doc("Revisions of the source it was built from.")] | None = None


class KustomizationStatus(Status, frozen=True, kw_only=True):
    """What was last tried and applied."""

    last_applied_revision: Annotated[str, doc("Revision that was last applied, and healthy where asked.")] = (
        ""
    )
    last_applied_origin_revision: Annotated[
        str, doc("Origin revision of it, such as the commit that an OCI artifact was made from.")
    ] = ""
    last_attempted_revision: Annotated[str, doc("Revision that was last tried.")] = ""
    inventory: Annotated[ResourceInventory, doc("The applied objects.")] | None = None
    history: Annotated[tuple[Snapshot, ...], doc("The last five results, the newest first.")] = ()


# What a Go client reads of an object without a spec: the CRD allows that.
_NO_SPEC: Final = KustomizationSpec(
    interval="0s", prune=False, source_ref=SourceReference(kind="GitRepository", name="")
)


class Kustomization(Resource, frozen=True, kw_only=True):
    """A directory of a source that is built, applied and kept applied."""

    spec: Annotated[KustomizationSpec, doc("What to apply, and how.")] = _NO_SPEC
    status: Annotated[
        KustomizationStatus,
        doc("What was last tried and applied.", default={"observedGeneration": -1}),
    ] = KustomizationStatus()

    @property
    def interval(self) -> float:
        """Seconds between two runs; 0 asks for none."""
        return seconds(self.spec.interval)

    @property
    def requeue(self) -> float:
        """Seconds after which a success is looked at again; 0 for never (Flux: GetRequeueAfter)."""
        return self.interval

    @property
    def retry_interval(self) -> float:
        """Seconds after which a failure is tried again; 0 for never."""
        return seconds(self.spec.retry_interval) if self.spec.retry_interval else self.interval

    def timeout(self, floor: float = TIMEOUT_FLOOR) -> float:
        """Give the time limit of one run in seconds.

        Args:
            floor: least time limit in seconds; Flux's is 30.
        """
        given = seconds(self.spec.timeout) if self.spec.timeout else self.interval - TIMEOUT_MARGIN
        return max(given, floor)

    @property
    def suspended(self) -> bool:
        """Whether the object must be left alone."""
        return self.spec.suspend

    @property
    def source(self) -> ObjectKey:
        """The source's identity, namespace filled in."""
        ref = self.spec.source_ref
        return ObjectKey(meta.SOURCE_GROUP, ref.kind, ref.namespace or self.namespace, ref.name)

    @property
    def dependencies(self) -> tuple[ObjectKey, ...]:
        """The Kustomizations that must be ready first, namespaces filled in."""
        return tuple(
            ObjectKey(meta.KUSTOMIZE_GROUP, meta.KUSTOMIZATION, ref.namespace or self.namespace, ref.name)
            for ref in self.spec.depends_on
        )

    @property
    def deletion_policy(self) -> DeletionPolicy:
        """What to do with the applied objects on deletion, default filled in."""
        return self.spec.deletion_policy or "MirrorPrune"

    @property
    def deletes(self) -> bool:
        """Whether deletion of this object deletes what it applied."""
        if self.deletion_policy == "MirrorPrune":
            return self.spec.prune
        return self.deletion_policy != "Orphan"

    @property
    def substitute_strategy(self) -> SubstituteStrategy:
        """When to substitute, default filled in."""
        build = self.spec.post_build
        return (build.substitute_strategy if build else None) or "WithVariables"

    @property
    def inventory(self) -> tuple[ResourceRef, ...]:
        """The entries of the inventory; empty when nothing was applied."""
        return self.status.inventory.entries if self.status.inventory else ()

    @property
    def requested(self) -> bool:
        """Whether a reconcile request is not answered yet."""
        return bool(self.requested_at) and self.requested_at != self.status.last_handled_reconcile_at
