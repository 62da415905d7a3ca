"""The CRDs made from the types, against those that Flux ships."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitwright.api import crds
from gitwright.api.kinds import KINDS, Kind

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = "controller-gen.kubebuilder.io/version"


def corpus() -> Path:
    """Find the folder of Flux's CRDs; without it skip, except in CI."""
    base = Path(os.environ.get("GITWRIGHT_CORPUS", ROOT / ".." / "shared" / "corpus"))
    folder = base / "crds"
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the corpus is missing: {folder}")
        pytest.skip(f"the corpus is missing: {folder}")
    return folder


def bare(value: Any, inside_properties: bool = False) -> Any:
    """Drop descriptions, but no property that is called description."""
    if isinstance(value, dict):
        return {
            key: bare(item, key == "properties")
            for key, item in value.items()
            if inside_properties or key != "description" or not isinstance(item, str)
        }
    if isinstance(value, list):
        return [bare(item) for item in value]
    return value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_equal_to_flux(kind: Kind) -> None:
    """A generated CRD is the one Flux ships: schema, defaults, rules, names, columns, annotations."""
    path = corpus() / f"{kind.gvk.group}_{kind.plural}.yaml"
    theirs = yaml.safe_load(path.read_text())
    # Names the generator that wrote the file; ours is another.
    del theirs["metadata"]["annotations"][GENERATOR]
    assert bare(crds.crd(kind)) == bare(theirs)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_every_field_is_described(kind: Kind) -> None:
    """Every field of spec and status has a description of its own."""
    root = crds.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    missing = []

    def walk(schema: dict[str, Any], path: str) -> None:
        if not schema.get("description", "").strip():
            missing.append(path)
        for name, child in schema.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        item = schema.get("items")
        if item and item.get("type") == "object":
            walk(item, f"{path}[]")

    for part in ("spec", "status"):
        walk(root["properties"][part], f"$.{part}")
    assert missing == []


def test_labels_are_set_on_request() -> None:
    """Labels given to the generator are on the CRD object, and only then."""
    plain, labelled = crds.crds(), crds.crds({"a": "b"})
    assert all("labels" not in crd["metadata"] for crd in plain)
    assert all(crd["metadata"]["labels"] == {"a": "b"} for crd in labelled)


def test_a_type_without_place_is_refused() -> None:
    """A type the API server has no schema for is an error, not an empty schema."""
    with pytest.raises(TypeError, match="has no place in a CRD"):
        crds.schema(float)
    with pytest.raises(TypeError, match="not a list of one type"):
        crds.schema(tuple[str, int])
