"""Names that Flux's users, tools and objects rely on: groups, labels, annotations, conditions, reasons.

Role in the flow: the one place where such a name is spelt; every room imports it from
here, and `docs/reference/conditions.md` is made of the two tables at the end. It knows
names and their meaning, no objects. Source: spec/flux-v2.md 2.0, 2.1, 3.1 to 3.6, 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# API groups.
SOURCE_GROUP: Final = "source.toolkit.fluxcd.io"
KUSTOMIZE_GROUP: Final = "kustomize.toolkit.fluxcd.io"
HELM_GROUP: Final = "helm.toolkit.fluxcd.io"
IMAGE_GROUP: Final = "image.toolkit.fluxcd.io"
NOTIFICATION_GROUP: Final = "notification.toolkit.fluxcd.io"
SOURCE_EXTENSIONS_GROUP: Final = "source.extensions.fluxcd.io"
GITWRIGHT_GROUP: Final = "gitwright.dev"
TOOLKIT_GROUPS: Final = (
    SOURCE_GROUP,
    KUSTOMIZE_GROUP,
    HELM_GROUP,
    IMAGE_GROUP,
    NOTIFICATION_GROUP,
    SOURCE_EXTENSIONS_GROUP,
)

# Kinds.
GIT_REPOSITORY: Final = "GitRepository"
KUSTOMIZATION: Final = "Kustomization"

# Annotations and labels that ask for something.
REQUESTED_AT: Final = "reconcile.fluxcd.io/requestedAt"
FORCE_AT: Final = "reconcile.fluxcd.io/forceAt"
RESET_AT: Final = "reconcile.fluxcd.io/resetAt"
SHARD_LABEL: Final = "sharding.fluxcd.io/key"

# Per managed object, as an annotation or a label (values match without regard to case).
SSA: Final = KUSTOMIZE_GROUP + "/ssa"
SSA_OVERRIDE: Final = "Override"
SSA_MERGE: Final = "Merge"
SSA_IF_NOT_PRESENT: Final = "IfNotPresent"
SSA_IGNORE: Final = "Ignore"
FORCE: Final = KUSTOMIZE_GROUP + "/force"
PRUNE: Final = KUSTOMIZE_GROUP + "/prune"
RECONCILE: Final = KUSTOMIZE_GROUP + "/reconcile"
SUBSTITUTE: Final = KUSTOMIZE_GROUP + "/substitute"
DECRYPT: Final = KUSTOMIZE_GROUP + "/decrypt"
ENABLED: Final = "enabled"
DISABLED: Final = "disabled"

# Owner labels of an applied object.
OWNER_NAME: Final = KUSTOMIZE_GROUP + "/name"
OWNER_NAMESPACE: Final = KUSTOMIZE_GROUP + "/namespace"

# What earlier appliers left on objects and an apply removes.
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
OLD_CHECKSUM: Final = KUSTOMIZE_GROUP + "/checksum"
OLD_SYNC_CHECKSUM: Final = "fluxcd.io/sync-checksum"
OLD_GC_MARK_LABEL: Final = "fluxcd.io/sync-gc-mark"

# Events. Every annotation of a Flux object with EVENT_PREFIX is copied to its events.
EVENT_PREFIX: Final = "event.toolkit.fluxcd.io/"
KUSTOMIZE_REVISION: Final = KUSTOMIZE_GROUP + "/revision"
KUSTOMIZE_ORIGIN_REVISION: Final = KUSTOMIZE_GROUP + "/originRevision"
COMMIT_STATUS: Final = KUSTOMIZE_GROUP + "/commit_status"
COMMIT_STATUS_UPDATE: Final = "update"
SOURCE_REVISION: Final = SOURCE_GROUP + "/revision"
SOURCE_DIGEST: Final = SOURCE_GROUP + "/digest"

# Who writes: server-side apply of managed objects, status and finalizers of Kustomizations, sources.
APPLY_MANAGER: Final = "kustomize-controller"
STATUS_MANAGER: Final = "gotk-kustomize-controller"
SOURCE_MANAGER: Final = "source-controller"
BEFORE_FIRST_APPLY: Final = "before-first-apply"
INSTALL_MANAGER: Final = "gitwright"

FINALIZER: Final = "finalizers.fluxcd.io"

# Leases of Flux's own controllers; their holder is the engine that may act.
KUSTOMIZE_LEASE: Final = "kustomize-controller-leader-election"
SOURCE_LEASE: Final = "source-controller-leader-election"

# Labels of our own installation.
PART_OF_LABEL: Final = "app.kubernetes.io/part-of"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
PRODUCT: Final = "gitwright"

# Types of conditions.
READY: Final = "Ready"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
HEALTHY: Final = "Healthy"
ARTIFACT_IN_STORAGE: Final = "ArtifactInStorage"
ARTIFACT_OUTDATED: Final = "ArtifactOutdated"
FETCH_FAILED: Final = "FetchFailed"
STORAGE_OPERATION_FAILED: Final = "StorageOperationFailed"
INCLUDE_UNAVAILABLE: Final = "IncludeUnavailable"
SOURCE_VERIFIED: Final = "SourceVerified"

# Reasons.
SUCCEEDED: Final = "Succeeded"
PROGRESSING: Final = "Progressing"
PROGRESSING_WITH_RETRY: Final = "ProgressingWithRetry"
RECONCILIATION_SUCCEEDED: Final = "ReconciliationSucceeded"
RECONCILIATION_FAILED: Final = "ReconciliationFailed"
ARTIFACT_FAILED: Final = "ArtifactFailed"
BUILD_FAILED: Final = "BuildFailed"
PRUNE_FAILED: Final = "PruneFailed"
HEALTH_CHECK_FAILED: Final = "HealthCheckFailed"
BUILD_WARNING: Final = "BuildWarning"
DRIFT_REPEATED: Final = "DriftRepeated"
DEPENDENCY_NOT_READY: Final = "DependencyNotReady"
ACCESS_DENIED: Final = "AccessDenied"
INVALID_CEL_EXPRESSION: Final = "InvalidCELExpression"
FEATURE_GATE_DISABLED: Final = "FeatureGateDisabled"
INVALID_SPEC: Final = "InvalidSpec"
UNSUPPORTED_FIELD: Final = "UnsupportedField"
URL_INVALID: Final = "URLInvalid"
AUTHENTICATION_FAILED: Final = "AuthenticationFailed"
VERIFICATION_ERROR: Final = "VerificationError"
GIT_OPERATION_FAILED: Final = "GitOperationFailed"
GIT_OPERATION_SUCCEEDED: Final = "GitOperationSucceeded"
EMPTY_GIT_REPOSITORY: Final = "EmptyGitRepository"
NEW_ARTIFACT: Final = "NewArtifact"
NEW_REVISION: Final = "NewRevision"
INCLUDE_CHANGE: Final = "IncludeChange"
NOT_FOUND: Final = "NotFound"
NO_ARTIFACT: Final = "NoArtifact"
ARTIFACT_UP_TO_DATE: Final = "ArtifactUpToDate"
ARTIFACT_VERIFICATION_FAILED: Final = "ArtifactVerificationFailed"
GARBAGE_COLLECTION_SUCCEEDED: Final = "GarbageCollectionSucceeded"
GARBAGE_COLLECTION_FAILED: Final = "GarbageCollectionFailed"
DIRECTORY_CREATION_FAILED: Final = "DirectoryCreationFailed"
STAT_OPERATION_FAILED: Final = "StatOperationFailed"
READ_OPERATION_FAILED: Final = "ReadOperationFailed"
ACQUIRE_LOCK_FAILED: Final = "AcquireLockFailed"
INVALID_PATH: Final = "InvalidPath"
ARCHIVE_OPERATION_FAILED: Final = "ArchiveOperationFailed"
PATCH_OPERATION_FAILED: Final = "PatchOperationFailed"
INVALID_PROVIDER_CONFIGURATION: Final = "InvalidProviderConfiguration"


@dataclass(frozen=True, slots=True)
class ConditionDoc:
    """One type of condition, for the reference.

    Args:
        type: the condition's type.
        kinds: the kinds that carry it.
        polarity: `normal` (True is good), `abnormal` (only there while it is True) or `both`.
        about: what it says.
    """

    type: str
    kinds: tuple[str, ...]
    polarity: str
    about: str


@dataclass(frozen=True, slots=True)
class ReasonDoc:
    """One reason of a condition or an event, for the reference.

    Args:
        name: the reason.
        kinds: the kinds that show it.
        about: when it is given.
        action: what to do about it; empty when there is nothing to do.
    """

    name: str
    kinds: tuple[str, ...]
    about: str
    action: str = ""


_GIT = (GIT_REPOSITORY,)
_KUSTOMIZATION = (KUSTOMIZATION,)
_BOTH = (GIT_REPOSITORY, KUSTOMIZATION)

CONDITIONS: Final = (
    ConditionDoc(
        READY, _BOTH, "normal", "The latest generation and revision are in place; sums up all others."
    ),
    ConditionDoc(RECONCILING, _BOTH, "abnormal", "Work is going on, or will be tried again."),
    ConditionDoc(STALLED, _BOTH, "abnormal", "Nothing more is tried until the object or a setting changes."),
    ConditionDoc(
        HEALTHY, _KUSTOMIZATION, "normal", "Result of the last health checks; absent when there are none."
    ),
    ConditionDoc(
        ARTIFACT_IN_STORAGE, _GIT, "normal", "The artifact named in the status is stored and served."
    ),
    ConditionDoc(ARTIFACT_OUTDATED, _GIT, "abnormal", "A newer revision than the stored one is known."),
    ConditionDoc(
        FETCH_FAILED, _GIT, "abnormal", "The repository could not be read; the old artifact stays in use."
    ),
    ConditionDoc(
        STORAGE_OPERATION_FAILED, _GIT, "abnormal", "The artifact could not be written to the local storage."
    ),
    ConditionDoc(
        INCLUDE_UNAVAILABLE, _GIT, "abnormal", "A repository named in spec.include has no artifact."
    ),
    ConditionDoc(
        SOURCE_VERIFIED, _GIT, "both", "Result of the signature check; absent when spec.verify is not set."
    ),
)

_STORAGE_ACTION = "Look at the free space and the rights of the storage path."

REASONS: Final = (
    ReasonDoc(SUCCEEDED, _BOTH, "A GitRepository is up to date; a health check passed."),
    ReasonDoc(PROGRESSING, _BOTH, "Work has begun and is not finished."),
    ReasonDoc(PROGRESSING_WITH_RETRY, _BOTH, "The last attempt failed; another one will follow."),
    ReasonDoc(RECONCILIATION_SUCCEEDED, _KUSTOMIZATION, "The revision is applied, and healthy where asked."),
    ReasonDoc(
        RECONCILIATION_FAILED,
        _KUSTOMIZATION,
        "The API server refused an object, or an apply failed; "
        "when it was the dry run, nothing of that stage was written.",
        "The message names the object and the field; correct them in the repository.",
    ),
    ReasonDoc(
        ARTIFACT_FAILED,
        _KUSTOMIZATION,
        "The source, its artifact or spec.path is missing.",
        "Look at the object named in spec.sourceRef, then at spec.path.",
    ),
    ReasonDoc(
        BUILD_FAILED,
        _KUSTOMIZATION,
        "kustomize, substitution or a limit of the build refused the files; the cluster is untouched.",
        "The message names the file; `kubectl kustomize` shows the same locally.",
    ),
    ReasonDoc(
        PRUNE_FAILED,
        _KUSTOMIZATION,
        "Objects no longer in the repository could not be deleted; they stay in the inventory.",
        "Give the account that applies the right to delete them.",
    ),
    ReasonDoc(
        HEALTH_CHECK_FAILED,
        _KUSTOMIZATION,
        "An applied object failed, or did not become healthy within spec.timeout.",
        "The message names the objects; look at their events.",
    ),
    ReasonDoc(
        BUILD_WARNING,
        _KUSTOMIZATION,
        "Something in the files was read in another way than it may have been meant; only in events.",
        "The message names the file and the field.",
    ),
    ReasonDoc(
        DRIFT_REPEATED,
        _KUSTOMIZATION,
        "Another writer keeps changing a field back, so repairs of it wait; only in events.",
        "Change it in Git, or remove the field from Git and leave it to the other writer.",
    ),
    ReasonDoc(
        DEPENDENCY_NOT_READY,
        _KUSTOMIZATION,
        "An object named in spec.dependsOn is not ready; work begins the moment it is.",
        "Look at the object that the message names.",
    ),
    ReasonDoc(
        ACCESS_DENIED,
        _BOTH,
        "Policy forbids what the object asks for, such as a reference into another namespace.",
        "Use an object of the same namespace, or change the setting that forbids it.",
    ),
    ReasonDoc(
        INVALID_CEL_EXPRESSION,
        _KUSTOMIZATION,
        "An expression in spec.dependsOn or spec.healthCheckExprs is not valid.",
        "Correct the expression that the message shows.",
    ),
    ReasonDoc(
        FEATURE_GATE_DISABLED,
        _BOTH,
        "The object asks for something that is not switched on.",
        "Remove the field, or switch the feature on.",
    ),
    ReasonDoc(
        INVALID_SPEC,
        _BOTH,
        "The object does not have the shape of its kind.",
        "Correct the field that the message names; an up to date CRD refuses such an object at once.",
    ),
    ReasonDoc(
        UNSUPPORTED_FIELD,
        _GIT,
        "The object uses a field that this version of gitwright cannot act on.",
        "Remove the field; the message names it.",
    ),
    ReasonDoc(
        URL_INVALID,
        _GIT,
        "spec.url cannot be used.",
        "Write it as https://host/path, or ssh://user@host/path.",
    ),
    ReasonDoc(
        AUTHENTICATION_FAILED,
        _GIT,
        "A Secret is missing, or lacks a key that its use requires.",
        "Compare the keys of the Secret with the description of spec.secretRef.",
    ),
    ReasonDoc(
        VERIFICATION_ERROR,
        _GIT,
        "The signature is missing, or is of none of the trusted keys.",
        "Look at the keys of spec.verify.secretRef and at the signature of the commit or tag.",
    ),
    ReasonDoc(
        GIT_OPERATION_FAILED,
        _GIT,
        "The repository, branch, tag or commit could not be read.",
        "The message holds the answer of the server; look at url, credentials and ref.",
    ),
    ReasonDoc(GIT_OPERATION_SUCCEEDED, _GIT, "Event: looked, and nothing is new."),
    ReasonDoc(EMPTY_GIT_REPOSITORY, _GIT, "The repository has no commit yet.", "Push a first commit."),
    ReasonDoc(NEW_ARTIFACT, _GIT, "Event: a new artifact was stored."),
    ReasonDoc(NEW_REVISION, _GIT, "A newer revision is being made into an artifact."),
    ReasonDoc(INCLUDE_CHANGE, _GIT, "An included repository has a newer artifact."),
    ReasonDoc(
        NOT_FOUND, _GIT, "An included repository does not exist.", "Create it, or correct spec.include."
    ),
    ReasonDoc(NO_ARTIFACT, _GIT, "An included repository has no artifact yet."),
    ReasonDoc(ARTIFACT_UP_TO_DATE, _GIT, "Event: the stored artifact has the latest revision."),
    ReasonDoc(
        ARTIFACT_VERIFICATION_FAILED,
        _GIT,
        "Event: the stored file was missing or not what its digest says; it is built again.",
    ),
    ReasonDoc(GARBAGE_COLLECTION_SUCCEEDED, _GIT, "Event: old artifacts were removed."),
    ReasonDoc(GARBAGE_COLLECTION_FAILED, _GIT, "Event: old artifacts could not be removed.", _STORAGE_ACTION),
    ReasonDoc(DIRECTORY_CREATION_FAILED, _GIT, "A directory could not be made.", _STORAGE_ACTION),
    ReasonDoc(STAT_OPERATION_FAILED, _GIT, "A path could not be examined.", _STORAGE_ACTION),
    ReasonDoc(READ_OPERATION_FAILED, _GIT, "A file could not be read.", _STORAGE_ACTION),
    ReasonDoc(ACQUIRE_LOCK_FAILED, _GIT, "Another process holds the storage.", _STORAGE_ACTION),
    ReasonDoc(
        INVALID_PATH,
        _GIT,
        "A path in the object leads outside of the repository or does not exist.",
        "Correct the path.",
    ),
    ReasonDoc(ARCHIVE_OPERATION_FAILED, _GIT, "The artifact could not be packed.", _STORAGE_ACTION),
    ReasonDoc(PATCH_OPERATION_FAILED, _GIT, "The API server refused a change of the object itself."),
    ReasonDoc(
        INVALID_PROVIDER_CONFIGURATION,
        _GIT,
        "spec.provider does not fit the keys of the Secret.",
        "Set spec.provider to the provider that the keys belong to.",
    ),
)
