"""What a build says when it fails: the file, the field, what was expected, and what to do."""

from __future__ import annotations

import pytest

from gitwright.render.kustomize.build import build
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.tree import MappingFiles

_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n"
_DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 1}\n"


def _failed(kustomization: str, **files: str) -> KustomizeError:
    contents = {f"app/{name.replace('_', '.')}": text.encode() for name, text in files.items()}
    contents["app/kustomization.yaml"] = kustomization.encode()
    with pytest.raises(KustomizeError) as caught:
        build(MappingFiles(contents), "app")
    return caught.value


def test_an_unknown_field_is_named_with_the_nearest_known_one() -> None:
    """A misspelt field fails with kustomize's words, the file, and the field that was meant."""
    error = _failed("resource: [a.yaml]\n")
    assert error.message == 'invalid Kustomization: json: unknown field "resource"'
    assert error.place == "app/kustomization.yaml"
    assert "resources" in error.hint


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("nameSuffix: -0010", "nameSuffix", "a string: put it in quotes"),
        ("commonLabels: {version: 1.10}", "commonLabels.version", "a string: put it in quotes"),
        ("resources: a.yaml", "resources", "a list"),
        ("images: [{name: a, newTag: 7}]", "images[0].newTag", "a string: put it in quotes"),
        ("replicas: [{name: a, count: two}]", "replicas[0].count", "an integer"),
        ("configMapGenerator: [{options: {immutable: sure}}]", "options.immutable", "true or false"),
        ("commonAnnotations: [a]", "commonAnnotations", "a mapping"),
    ],
)
def test_a_value_of_a_wrong_type_names_the_field_and_what_was_expected(
    text: str, field: str, expected: str
) -> None:
    """A field of a wrong type fails with the path to it and the type it should have."""
    error = _failed(f"{text}\n")
    assert "json: cannot unmarshal" in error.message
    assert field in error.detail
    assert expected in error.detail
    assert error.place == "app/kustomization.yaml"


def test_a_missing_resource_names_the_item_of_the_list() -> None:
    """A resource that is not there fails with the kustomization file and the place in its list."""
    error = _failed("resources: [a.yaml, b.yaml]\n", a_yaml=_MAP)
    assert "no such file or directory" in error.message
    assert error.place == "app/kustomization.yaml"
    assert "resources[1]" in error.detail


def test_an_object_given_twice_names_both_files() -> None:
    """Two objects of one identity fail with both files that hold it."""
    error = _failed("resources: [a.yaml, b.yaml]\n", a_yaml=_MAP, b_yaml=_MAP)
    assert "already registered id: ConfigMap.v1.[noGrp]/one" in error.message
    assert error.place == "app/b.yaml"
    assert "app/a.yaml" in error.detail


def test_an_object_without_a_name_names_its_file() -> None:
    """An object without metadata.name fails with its file and its number in it."""
    error = _failed("resources: [a.yaml]\n", a_yaml=f"{_MAP}---\napiVersion: v1\nkind: Pod\n")
    assert "missing metadata.name" in error.message
    assert error.place == "app/a.yaml"
    assert "object 2" in error.detail


def test_replicas_for_nothing_name_what_there_is() -> None:
    """A count of replicas for a name that no object has fails with the names that there are."""
    error = _failed("resources: [a.yaml]\nreplicas: [{name: wbe, count: 2}]\n", a_yaml=_DEPLOYMENT)
    assert "resource with name wbe does not match" in error.message
    assert "web" in error.hint
    assert "replicas[0]" in error.place


def test_a_replacement_without_a_source_names_what_there_is() -> None:
    """A replacement whose source is no object fails with its place and the objects of that kind."""
    text = "replacements: [{source: {kind: Deployment, name: x}, targets: [{select: {kind: Deployment}}]}]\n"
    error = _failed(f"resources: [a.yaml]\n{text}", a_yaml=_DEPLOYMENT)
    assert "nothing selected by Deployment" in error.message
    assert "apps/web" in error.hint
    assert "replacements[0]" in error.place


def test_a_field_of_a_wrong_shape_names_the_object_and_its_file() -> None:
    """A transformer that meets text where a mapping must be fails with the object and its file."""
    error = _failed(
        "resources: [a.yaml]\ncommonLabels: {a: b}\n", a_yaml=_DEPLOYMENT.replace("{replicas: 1}", "text")
    )
    assert "Deployment.v1.apps/web" in error.message
    assert error.place == "app/a.yaml"


def test_a_file_of_a_generator_that_is_missing_names_the_entry() -> None:
    """A generator's missing file fails with the entry and the field."""
    error = _failed("secretGenerator: [{name: a}, {name: b, files: [none.txt]}]\n")
    assert "none.txt" in error.message
    assert "secretGenerator[1]" in error.place
    assert "files" in error.detail


def test_deprecated_fields_are_warned_of_with_their_file() -> None:
    """A deprecated field still builds, and the warning says where it is and what to use."""
    files = {
        "app/kustomization.yaml": b"bases: [../base]\n",
        "base/kustomization.yaml": b"resources: [a.yaml]\n",
    }
    built = build(MappingFiles({**files, "base/a.yaml": _MAP.encode()}), "app")
    assert built.warnings == (
        "app/kustomization.yaml: 'bases' is deprecated. Please use 'resources' instead.",
    )
