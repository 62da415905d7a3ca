"""What the vetting walk finds is all that kustomize reads, shown on every overlay of the corpora."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitwright.render import BuildError, BuildSpec
from gitwright.render.files import Known
from gitwright.render.vet import vet
from tests.sandbox.test_render import KUBECTL, digest_of, make
from tests.sandbox.trees import tree_of


def corpus() -> Path:
    return Path(os.environ.get("GITWRIGHT_CORPUS", Path(__file__).parents[2].parent / "shared" / "corpus"))


def overlays() -> Iterator[str]:
    for path in sorted(corpus().rglob("kustomization.y*ml")):
        text = path.read_text()
        if (
            "/invalid/" not in str(path)
            and "http" not in text
            and "github.com" not in text
            and "kind: Component" not in text
        ):
            yield str(path.parent.relative_to(corpus()))


@pytest.mark.parametrize(
    "overlay", list(overlays()) or [pytest.param("", marks=pytest.mark.skip("no corpus here"))]
)
async def test_the_closure_is_all_that_kustomize_reads(overlay: str, tmp_path: Path) -> None:
    """Of every overlay in the corpora, the vetted files give what kustomize gives on the whole repository."""
    top = overlay.split("/")[0]
    await asyncio.to_thread(shutil.copytree, corpus() / top, tmp_path / top, symlinks=True)
    files = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in (tmp_path / top).rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    spec = BuildSpec(path=overlay)
    renderer = make(tmp_path / "scratch")
    closure = await vet(tree_of(files), spec, "/tmp/kustomization-1", Known())
    for path, content in closure.contents.items():
        if path.startswith(f"{overlay}/kustomization.y"):
            (tmp_path / path).write_bytes(content)
    argv = [KUBECTL, "kustomize", "--load-restrictor=LoadRestrictionsNone", str(tmp_path / overlay)]
    judge = await asyncio.to_thread(subprocess.run, argv, capture_output=True, check=False)
    if judge.returncode != 0:
        with pytest.raises(BuildError):
            await renderer.render(tree_of(files), spec, None)
        return
    rendered = await renderer.render(tree_of(files), spec, None)
    assert rendered.digest == digest_of(judge.stdout.decode())
