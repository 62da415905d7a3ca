"""From a Kustomization's spec and its artifact to rendered manifests.

Role in the flow: between the artifact and the plan. It words what goes wrong as Flux
does, and reads variables as the tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gitwright.api.base import plain
from gitwright.api.kustomize import KustomizationSpec, PostBuild
from gitwright.artifact.store import Artifact
from gitwright.controllers.references import variables
from gitwright.core.errors import GitwrightError, Transient
from gitwright.core.objects import Manifest
from gitwright.kube.client import Client
from gitwright.observe.redact import Redactor
from gitwright.render import BuildSpec, Renderer, Substitution


@dataclass(frozen=True, slots=True)
class Built:
    """The result of a build.

    Args:
        manifests: the objects, in kustomize's order.
        digest: digest of the built YAML.
        warnings: what the build read in another way than its author may have meant; only
            from the run that really built.
    """

    manifests: tuple[Manifest, ...]
    digest: str
    warnings: tuple[str, ...] = ()


class Builder:
    """Builds what Kustomizations describe.

    Args:
        renderer: renders and remembers.
        redactor: is told the values of Secrets that variables come from.
        strict: whether an unset variable fails the build, as in Flux 2.9.
    """

    def __init__(self, renderer: Renderer, redactor: Redactor, *, strict: bool = True) -> None:
        self._renderer = renderer
        self._redactor = redactor
        self._strict = strict

    async def build(
        self, artifact: Artifact, spec: KustomizationSpec, namespace: str, client: Client
    ) -> Built:
        """Build the manifests of a Kustomization.

        Args:
            artifact: the files.
            spec: what to build of them.
            namespace: the Kustomization's namespace.
            client: reads ConfigMaps and Secrets as the tenant.

        Raises:
            GitwrightError: with reason BuildFailed or ArtifactFailed, in Flux's words.
        """
        wanted = build_spec(spec)
        substitution = None
        if spec.post_build is not None:
            try:
                values = await variables(spec, namespace, client, self._redactor) or {}
            except GitwrightError as error:
                raise await self._at_first_object(artifact, wanted, error) from error
            substitution = self._substitution(spec.post_build, values)
        rendered = await self._renderer.render(artifact.tree, wanted, substitution)
        warnings = () if rendered.remembered else rendered.warnings
        return Built(rendered.manifests, rendered.digest, warnings)

    async def _at_first_object(
        self, artifact: Artifact, wanted: BuildSpec, error: GitwrightError
    ) -> GitwrightError:
        """Name the first object, as Flux does, which meets the error while it substitutes there."""
        rendered = await self._renderer.render(artifact.tree, wanted, None)
        if not rendered.manifests:
            return error
        first = rendered.manifests[0]
        group = first.gvk.group or "[noGrp]"
        where = f"{first.gvk.kind}.{first.gvk.version}.{group}/{first.key.name}"
        return Transient(
            f"post build failed for '{where}': {error.message}",
            reason="BuildFailed",
            place=error.place,
            hint=error.hint,
        )

    def remembered(self, artifact: Artifact, spec: KustomizationSpec) -> str | None:
        """Give the digest of a build that is remembered for this artifact, cheaply, or None."""
        substitution = None
        if spec.post_build is not None:
            if spec.post_build.substitute_from:
                # Its variables lie in other objects, which are not read for a guess.
                return None
            substitution = self._substitution(spec.post_build, spec.post_build.substitute or {})
        found = self._renderer.peek(artifact.tree, build_spec(spec), substitution)
        return found.digest if found else None

    def _substitution(self, post_build: PostBuild, values: Mapping[str, str]) -> Substitution:
        strategy = post_build.substitute_strategy or "WithVariables"
        return Substitution(variables=values, strategy=strategy, strict=self._strict)


def build_spec(spec: KustomizationSpec) -> BuildSpec:
    """Take from a spec what the build depends on."""
    return BuildSpec(
        path=spec.path,
        target_namespace=spec.target_namespace,
        name_prefix=spec.name_prefix,
        name_suffix=spec.name_suffix,
        patches=tuple(plain(patch) for patch in spec.patches),
        images=tuple(plain(image) for image in spec.images),
        components=tuple(spec.components),
        ignore_missing_components=spec.ignore_missing_components,
        build_metadata=tuple(spec.build_metadata),
    )
