"""`gitwright kustomize`, run as a person runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitwright.cli import main

_TEXT = 'apiVersion: v1\ndata:\n  a: "5"\nkind: ConfigMap\nmetadata:\n  name: {name}\n'


def _folder(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(f"resources: [o.yaml]\nnamePrefix: {name}-\n")
    (folder / "o.yaml").write_text("kind: ConfigMap\napiVersion: v1\nmetadata: {name: c}\ndata: {a: '5'}\n")
    return folder


def test_it_prints_the_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The objects of all folders come in order, as YAML documents."""
    folders = [str(_folder(tmp_path, name)) for name in ("a", "b")]
    assert main(["kustomize", *folders]) == 0
    assert capsys.readouterr().out == f"{_TEXT.format(name='a-c')}---\n{_TEXT.format(name='b-c')}"


def test_it_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With -o nothing is printed and the file holds the objects."""
    output = tmp_path / "all.yaml"
    assert main(["kustomize", str(_folder(tmp_path, "a")), "-o", str(output)]) == 0
    assert output.read_text() == _TEXT.format(name="a-c")
    assert capsys.readouterr().out == ""


def test_it_writes_a_file_per_object(tmp_path: Path) -> None:
    """With -o and a folder each object has its own file."""
    output = tmp_path / "out"
    output.mkdir()
    assert main(["kustomize", str(_folder(tmp_path, "a")), "-o", str(output)]) == 0
    assert [path.name for path in output.iterdir()] == ["v1_configmap_a-c.yaml"]


def test_nothing_outside_of_the_root_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path out of the root fails, and the error names the file that has it."""
    (tmp_path / "secret.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")
    folder = _folder(tmp_path, "a")
    (folder / "kustomization.yaml").write_text("resources: [../secret.yaml]\n")
    assert main(["kustomize", "--root", str(folder), str(folder)]) == 3
    assert "kustomization.yaml" in capsys.readouterr().err


def test_a_folder_that_is_none_is_misuse(tmp_path: Path) -> None:
    """Exit code 2 says that the command line is wrong."""
    assert main(["kustomize", str(tmp_path / "none")]) == 2


def test_who_leaves_the_tree_is_told_of_the_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a repository, a base beside the folder needs --root, and the error says so."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "kustomization.yaml").write_text("resources: []\nnamespace: x\n")
    (tmp_path / "over").mkdir()
    (tmp_path / "over" / "kustomization.yaml").write_text("resources: [../base]\n")
    monkeypatch.chdir(tmp_path / "base")
    assert main(["kustomize", str(tmp_path / "over")]) == 3
    assert "--root" in capsys.readouterr().err
