"""Where objects come from and what changed them, as `buildMetadata` writes it into annotations.

Role in the flow: `accumulate` keeps one `Origin` per folder and hands it on. Source: kustomize
api/resource/origin.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace

from gitwright.formats import yaml
from gitwright.render.kustomize.model import ORIGIN, TRANSFORMATIONS, Resource, ResourceList, text_of, texts


@dataclass(frozen=True, slots=True)
class Origin:
    """A file, or the configuration of a generator or transformer.

    Args:
        path: the file or folder, from the folder that is built.
        configured_in: the file that configures it, for generators and transformers.
        configured_by: apiVersion, kind, name and namespace of that configuration.
    """

    path: str = ""
    configured_in: str = ""
    configured_by: tuple[str, str, str, str] = ("", "", "", "")

    def append(self, path: str) -> Origin:
        """Give the origin of something below."""
        return replace(self, path=posixpath.normpath(posixpath.join(self.path, path)))

    def builtin(self, name: str, kind: str) -> Origin:
        """Give the origin of what a field of a kustomization file makes or changes."""
        inside = posixpath.normpath(posixpath.join(self.path, name))
        return Origin(configured_in=inside, configured_by=("builtin", kind, "", ""))

    def lines(self) -> list[str]:
        """Give it as lines of YAML."""
        found = []
        for name, value in (("path", self.path), ("configuredIn", self.configured_in)):
            if value:
                found.append(f"{name}: {_quoted(value)}")
        if any(self.configured_by):
            found.append("configuredBy:")
            names = ("apiVersion", "kind", "name", "namespace")
            for name, value in zip(names, self.configured_by, strict=True):
                if value:
                    found.append(f"  {name}: {_quoted(value)}")
        return found


def _quoted(value: str) -> str:
    return yaml.dump(value).rstrip("\n")


def mark(resource: Resource, origin: Origin) -> None:
    """Write an object's origin, whatever stood there."""
    resource.set_annotation(ORIGIN, _text(origin.lines()))


def _set(resource: Resource, name: str, text: str) -> None:
    """Set an annotation; kustomize writes the others anew as texts when it does."""
    metadata = resource.obj.get("metadata")
    if isinstance(metadata, dict) and "annotations" in metadata:
        metadata["annotations"] = texts(metadata["annotations"])
    resource.set_annotation(name, text)


def marked(resource: Resource) -> str:
    """Give an object's origin as it is written; empty when it has none."""
    return text_of(resource.annotations.get(ORIGIN))


def mark_new(resource: Resource, origin: Origin | None) -> None:
    """Write the origin of a generated object that has none."""
    if origin is not None and not marked(resource):
        _set(resource, ORIGIN, _text(origin.lines()))


def transformed(resources: ResourceList, origin: Origin | None) -> None:
    """Note on every object that a transformer has run."""
    if origin is None:
        return
    lines = origin.lines()
    entry = _text([("- " if index == 0 else "  ") + line for index, line in enumerate(lines)])
    for resource in resources:
        annotations = resource.annotations
        if ORIGIN not in annotations:
            _set(resource, ORIGIN, _text(lines))
        else:
            before = text_of(annotations.get(TRANSFORMATIONS))
            _set(resource, TRANSFORMATIONS, before + entry)


def of_plugin(resource: Resource) -> Origin | None:
    """Give the origin of what a plugin makes, of the origin of its configuration."""
    text = marked(resource)
    if not text:
        return None
    values = yaml.load_documents(text)
    path = text_of(values[0].get("path")) if values else ""
    by = (resource.api_version, resource.kind, resource.name, resource.namespace)
    return Origin(configured_in=path, configured_by=by)


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
