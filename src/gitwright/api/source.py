"""source.toolkit.fluxcd.io: GitRepository, its spec and status.

Role in the flow: what the source room reads to know what to fetch, and the artifact
that a Kustomization starts from. It knows no git and no network.
Source: spec/flux-v2.md 2.0 and 2.1; the CRD of Flux's source-controller.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from gitwright.api import meta
from gitwright.api.base import (
    DURATION,
    DURATION_WITHOUT_HOURS,
    LocalObjectReference,
    Resource,
    Rule,
    Status,
    Value,
    doc,
    seconds,
)

VERSION: Final = "v1"
API_VERSION: Final = f"{meta.SOURCE_GROUP}/{VERSION}"
DEFAULT_BRANCH: Final = "master"
DEFAULT_TIMEOUT: Final = 60.0


class GitRepositoryRef(Value, frozen=True, kw_only=True):
    """What to check out. The first of commit, name, semver, tag and branch that is set decides."""

    branch: Annotated[str, doc("Branch; `master` when no other field is set.")] = ""
    tag: Annotated[str, doc("Tag; wins over branch.")] = ""
    semver: Annotated[
        str,
        doc("Range of semantic versions, such as `>=1.0.0 <2.0.0`: the highest tag in it; wins over tag."),
    ] = ""
    name: Annotated[
        str, doc("Full name of a reference, such as `refs/pull/420/head`; wins over semver, tag and branch.")
    ] = ""
    commit: Annotated[
        str, doc("Commit id; wins over all others. With branch, the commit must be on that branch.")
    ] = ""


class GitRepositoryVerification(Value, frozen=True, kw_only=True):
    """Signatures that must be there before a revision is used."""

    mode: Annotated[
        Literal["head", "HEAD", "Tag", "TagAndHEAD"],
        doc("What must be signed: the commit (HEAD, also written head), the tag, or both.", default="HEAD"),
    ] = "HEAD"
    secret_ref: Annotated[
        LocalObjectReference,
        doc("Secret with the trusted public keys: PGP under keys ending in .asc, SSH in .sshpub."),
    ]

    @property
    def head(self) -> bool:
        """Whether the commit must be signed."""
        return self.mode != "Tag"

    @property
    def tag(self) -> bool:
        """Whether the tag must be signed."""
        return self.mode in ("Tag", "TagAndHEAD")


class GitRepositoryInclude(Value, frozen=True, kw_only=True):
    """Another GitRepository whose files are copied into this artifact."""

    repository: Annotated[LocalObjectReference, doc("The GitRepository to copy from, in the same namespace.")]
    from_path: Annotated[str, doc("Directory to copy; the root when empty.")] = ""
    to_path: Annotated[str, doc("Directory to copy to; the name of the repository when empty.")] = ""

    @property
    def target(self) -> str:
        """The directory to copy to, default filled in."""
        return self.to_path or self.repository.name


class GitRepositorySpec(Value, frozen=True, kw_only=True):
    """Which repository to watch, how often, and what of it to make into an artifact."""

    url: Annotated[
        str,
        doc(
            "Address of the repository: http, https or ssh. The short form `host:path` is not accepted.",
            pattern=r"^(http|https|ssh)://.*$",
        ),
    ]
    secret_ref: (
        Annotated[
            LocalObjectReference,
            doc(
                "Secret with credentials. HTTPS: `username` and `password`, or `bearerToken`; optionally "
                "`ca.crt`, `tls.crt` and `tls.key`. SSH: `identity` and `known_hosts`, and `password` for a "
                "protected key."
            ),
        ]
        | None
    ) = None
    provider: (
        Annotated[
            Literal["generic", "aws", "azure", "github"],
            doc("Whose way of authentication to use; `generic` when empty."),
        ]
        | None
    ) = None
    service_account_name: Annotated[
        str, doc("ServiceAccount to authenticate with; only with the providers azure and aws.")
    ] = ""
    interval: Annotated[
        str,
        doc("How often to look for changes, about; a duration such as `1m30s`.", pattern=DURATION),
    ]
    timeout: Annotated[
        str,
        doc(
            "Time limit of one Git operation; a duration without hours, 60s when empty.",
            pattern=DURATION_WITHOUT_HOURS,
            default="60s",
        ),
    ] = ""
    ref: Annotated[GitRepositoryRef, doc("What to check out; branch `master` when empty.")] | None = None
    verify: (
        Annotated[GitRepositoryVerification, doc("Which signatures to demand; none when empty.")] | None
    ) = None
    proxy_secret_ref: (
        Annotated[
            LocalObjectReference,
            doc("Secret with the proxy to use: `address` (http, https or socks5), `username`, `password`."),
        ]
        | None
    ) = None
    ignore: (
        Annotated[
            str,
            doc(
                "Patterns of files to leave out, as in .gitignore; they come after those of "
                ".sourceignore files."
            ),
        ]
        | None
    ) = None
    suspend: Annotated[bool, doc("Stop looking for changes; false when empty.")] = False
    recurse_submodules: Annotated[
        bool, doc("Fetch submodules too, with the same credentials; false when empty.")
    ] = False
    include: Annotated[
        tuple[GitRepositoryInclude, ...], doc("Other GitRepositories to copy into this artifact.")
    ] = ()
    sparse_checkout: Annotated[
        tuple[str, ...], doc("Directories to take; everything when empty. Each of them must exist.")
    ] = ()


class Artifact(Value, frozen=True, kw_only=True):
    """A stored, immutable archive of one revision of a source."""

    path: Annotated[str, doc("File, relative to the root of the storage.")]
    url: Annotated[str, doc("HTTP address of the file inside the cluster.")]
    revision: Annotated[str, doc("What it was made of, such as `main@sha1:<commit>`.")]
    digest: Annotated[
        str,
        doc(
            "Checksum of the file, `<algorithm>:<hexadecimal>`.",
            pattern=r"^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$",
        ),
    ]
    last_update_time: Annotated[str, doc("When it was stored (RFC 3339).", format="date-time")]
    size: Annotated[int, doc("Size of the file in bytes.", format="int64")] | None = None
    metadata: (
        Annotated[dict[str, str], doc("What the source says of it, such as OCI annotations.")] | None
    ) = None


class GitRepositoryStatus(Status, frozen=True, kw_only=True):
    """What was last seen of the repository, and the artifact made of it."""

    artifact: Annotated[Artifact, doc("The last artifact that was stored.")] | None = None
    included_artifacts: Annotated[
        tuple[Artifact, ...], doc("The artifacts that were copied in, in the order of spec.include.")
    ] = ()
    observed_ignore: (
        Annotated[str, doc("The patterns of spec.ignore that the artifact was made with.")] | None
    ) = None
    observed_recurse_submodules: Annotated[
        bool, doc("The value of spec.recurseSubmodules that the artifact was made with.")
    ] = False
    observed_include: Annotated[
        tuple[GitRepositoryInclude, ...], doc("The value of spec.include that the artifact was made with.")
    ] = ()
    observed_sparse_checkout: Annotated[
        tuple[str, ...], doc("The value of spec.sparseCheckout that the artifact was made with.")
    ] = ()
    source_verification_mode: Annotated[str, doc("The mode of the last signature check.")] | None = None


# What a Go client reads of an object without a spec: the CRD allows that.
_NO_SPEC: Final = GitRepositorySpec(url="", interval="0s")


class GitRepository(Resource, frozen=True, kw_only=True):
    """A Git repository that is watched and made into artifacts."""

    spec: Annotated[
        GitRepositorySpec,
        doc(
            "What to fetch, and how.",
            rules=(
                Rule(
                    rule="!has(self.serviceAccountName) || (has(self.provider) && "
                    "(self.provider == 'azure' || self.provider == 'aws'))",
                    message="serviceAccountName can only be set when provider is 'azure' or 'aws'",
                ),
            ),
        ),
    ] = _NO_SPEC
    status: Annotated[
        GitRepositoryStatus,
        doc("What was last seen and stored.", default={"observedGeneration": -1}),
    ] = GitRepositoryStatus()

    @property
    def interval(self) -> float:
        """Seconds between two looks at the repository; 0 asks for none."""
        return seconds(self.spec.interval)

    @property
    def requeue(self) -> float:
        """Seconds after which a success is looked at again; 0 for never (Flux: GetRequeueAfter)."""
        return self.interval

    @property
    def timeout(self) -> float:
        """Time limit of one Git operation in seconds."""
        return seconds(self.spec.timeout) if self.spec.timeout else DEFAULT_TIMEOUT

    @property
    def suspended(self) -> bool:
        """Whether the object must be left alone."""
        return self.spec.suspend

    @property
    def ref(self) -> GitRepositoryRef:
        """What to check out; without any field set, the branch `master`."""
        given = self.spec.ref or GitRepositoryRef()
        if given == GitRepositoryRef():
            return GitRepositoryRef(branch=DEFAULT_BRANCH)
        return given

    @property
    def provider(self) -> str:
        """The provider, default filled in."""
        return self.spec.provider or "generic"

    @property
    def requested(self) -> bool:
        """Whether a reconcile request is not answered yet."""
        return bool(self.requested_at) and self.requested_at != self.status.last_handled_reconcile_at
