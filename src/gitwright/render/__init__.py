"""Render: from a directory tree and a spec to frozen manifests.

Role in the flow: between an artifact and the plan. `vet` walks what a build will read and
refuses what leaves the tree; `generate` writes the kustomization file that Flux would;
`child` runs kustomize on exactly the vetted files; `substitute` replaces variables;
`build` remembers. Nothing here knows clusters or objects of the API.
"""

from gitwright.render.build import Rendered, Renderer
from gitwright.render.errors import BuildError
from gitwright.render.generate import BuildSpec
from gitwright.render.substitute import Substitution

__all__ = ["BuildError", "BuildSpec", "Rendered", "Renderer", "Substitution"]
