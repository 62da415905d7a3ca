"""`gitwright kustomize`: builds kustomizations and prints what `kubectl kustomize` prints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from gitwright.cli.failures import YES, Misuse
from gitwright.cli.options import Session, Verb, in_session
from gitwright.formats import yaml
from gitwright.render.kustomize.build import Built, build
from gitwright.render.kustomize.directory import DirectoryFiles
from gitwright.render.kustomize.documents import Remembered
from gitwright.render.kustomize.errors import KustomizeError


@click.command(cls=Verb, name="kustomize", short_help="Build kustomizations and print the objects.")
@click.argument("directories", metavar="DIR...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="",
    help="Write to this file, or a file per object into this folder.",
)
@click.option(
    "--root",
    metavar="DIR",
    default="",
    help="Nothing outside of this folder is read (the repository, else the working directory or DIR).",
)
@in_session
def kustomize(session: Session, directories: tuple[str, ...], output: str, root: str) -> int:
    r"""Build the kustomizations in folders and print their objects, as `kubectl kustomize` does.

    Several folders share what they read; their objects come one folder after the other. No
    cluster, network or program is used.

    \b
    Examples:
      gitwright kustomize apps/production
      gitwright kustomize clusters/* -o all.yaml
    """
    remembered = Remembered()
    objects = []
    for directory in directories:
        folder = Path(os.path.abspath(directory))
        if not folder.is_dir():
            raise Misuse(f"'{directory}' is no folder")
        top = Path(os.path.abspath(root)) if root else _root(folder)
        if not folder.is_relative_to(top):
            raise Misuse(f"'{directory}' is not below '{root}'")
        relative = folder.relative_to(top).as_posix()
        built = _built(DirectoryFiles(top), "" if relative == "." else relative, remembered)
        for warning in built.warnings:
            session.console.warning(warning)
        objects.extend(built.objects)
    if output and Path(output).is_dir():
        for obj in objects:
            Path(output, _file_name(obj)).write_text(yaml.dump(obj), encoding="utf-8")
        return YES
    texts = _texts(objects)
    if output:
        with Path(output).open("w", encoding="utf-8") as file:
            file.writelines(texts)
    else:
        session.console.out.writelines(texts)
        session.console.out.flush()
    return YES


def _built(files: DirectoryFiles, path: str, remembered: Remembered) -> Built:
    """Build a folder; who leaves the tree is told how to widen it."""
    try:
        return build(files, path, remembered)
    except KustomizeError as error:
        if error.hint or "leads out of the tree" not in error.message:
            raise
        hint = "outside of a Git repository, name the folder that all of it is below by --root"
        raise KustomizeError(error.message, place=error.place, detail=error.detail, hint=hint) from error


def _texts(objects: list[dict[str, object]]) -> Iterator[str]:
    for number, obj in enumerate(objects):
        if number:
            yield "---\n"
        yield yaml.dump(obj)


def _file_name(obj: dict[str, object]) -> str:
    """Name the file of an object as kustomize does: by group, version, kind and name."""
    metadata = obj.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    version = str(obj.get("apiVersion")).replace("/", "_")
    parts = [given.get("namespace"), version, obj.get("kind"), given.get("name")]
    name = "_".join(str(part) for part in parts if part).lower()
    return name.replace("/", "_").replace(":", "-") + ".yaml"


def _root(folder: Path) -> Path:
    """Give the folder that nothing is read outside of: the repository, else where one is, else the folder."""
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            return parent
    here = Path.cwd()
    return here if folder.is_relative_to(here) else folder
