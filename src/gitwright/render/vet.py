"""The vetting walk: everything that a build will read, found and judged before it runs.

Role in the flow: between a tree and the child. It starts at the generated root, follows
every field that names a file or a folder, and gives the closure: exactly what is written
out. Kustomization files are written as they were understood here, so that nothing is
built that was not looked at. It runs no program and writes no file.
Source: spec/dependencies.md 1; spec/security.md S1-S3, S7, S10, S11; kustomize 5.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gitwright.artifact.tree import Tree, TreeError
from gitwright.core.errors import Transient
from gitwright.core.objects import JSON
from gitwright.formats import yaml
from gitwright.render import files
from gitwright.render.errors import PREFIX, BuildError, shown
from gitwright.render.generate import BuildSpec, Generated, canonical, generate, kustomization_names
from gitwright.render.graph import check_graph
from gitwright.render.paths import Outside, Place, Places, is_plain, is_remote

MAX_BYTES = 256 * 1024 * 1024
"""Bytes of all files of one build (S10)."""
MAX_DIRECTORIES = 10_000
"""Folders with a kustomization in one build (S3)."""
_REMOTE_HINT = "remote bases are off: vendor them into the repository"


@dataclass(frozen=True, slots=True)
class Closure:
    """What one build reads.

    Args:
        directory: the folder that is built, from the root of the tree.
        facts: what must be true of a tree for this closure to be its closure too.
        contents: path -> bytes, kustomization files as they were understood.
        links: path -> target of symbolic links on the way, all inside the tree.
        directories: folders that must exist, empty or not.
        created: whether the root's kustomization file was generated.
        warnings: what a user should know although it builds.
    """

    directory: str
    facts: tuple[tuple[str, str], ...]
    contents: Mapping[str, bytes]
    links: Mapping[str, str]
    directories: frozenset[str]
    created: bool
    warnings: tuple[str, ...]


async def vet(tree: Tree, spec: BuildSpec, root: str, known: files.Known) -> Closure:
    """Find everything that the build of a spec reads from a tree.

    Args:
        tree: the files.
        spec: what to build.
        root: the folder that messages name.
        known: what is known of blobs seen before; grows by those of this build.

    Raises:
        Transient: the path is not there (reason ArtifactFailed), as it may be in the next revision.
        BuildError: the build would leave the tree, fetch something, go in circles or exceed a limit.
    """
    walk = _Walk(tree, spec, root, known)
    return await walk.run()


@dataclass(slots=True)
class _Visit:
    """A folder to look into.

    Args:
        directory: its path from the root.
        owner: for a folder that gives plugins: the folder that their paths are relative to.
    """

    directory: str
    owner: str | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        """What tells visits apart."""
        return (self.directory, self.owner)


@dataclass(slots=True)
class _Found:
    """What the walk has gathered."""

    files: set[str] = field(default_factory=set)
    yaml: set[str] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)
    kustomizations: dict[str, JSON] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)
    plugins: list[tuple[str, str]] = field(default_factory=list)
    edges: dict[str, set[str]] = field(default_factory=dict)
    whole: bool = False


class _Walk:
    def __init__(self, tree: Tree, spec: BuildSpec, root: str, known: files.Known) -> None:
        self._tree = tree
        self._spec = spec
        self._root = root
        self._known = known
        self._places = Places(tree)
        self._found = _Found()
        self._queue: list[_Visit] = []
        self._seen: set[tuple[str, str | None]] = set()

    async def run(self) -> Closure:
        top, generated = await self._top()
        self._seen.add((top, None))
        self._take(_Visit(top), generated.content, self._path(top, generated.name))
        while self._queue or self._found.plugins:
            await self._plugins()
            await self._next()
        check_graph(self._found.edges, top, lambda path: shown(self._root, path))
        contents = await self._contents()
        return Closure(
            top,
            tuple(self._places.facts.items()),
            contents,
            dict(self._places.links),
            frozenset(self._found.directories),
            generated.created,
            generated.warnings,
        )

    async def _top(self) -> tuple[str, Generated]:
        """Find the folder to build and the kustomization file that Flux would give it."""
        try:
            place = self._places.root(self._spec.path)
        except Outside as error:
            raise self._outside(error, self._spec.path) from None
        if place.kind == "absent":
            where = shown(self._root, place.path)
            raise Transient(
                f"kustomization path not found: stat {where}: no such file or directory",
                reason="ArtifactFailed",
                hint="spec.path must name a folder of the source's artifact",
            )
        if place.kind == "file":
            raise BuildError(f"{PREFIX}: '{shown(self._root, place.path)}' is not a directory")
        content = None
        if self._one_name(place.path) is not None:
            content = await self._kustomization(place.path)
        else:
            # What the generator lists depends on every name below.
            self._places.below(place.path)
        return place.path, generate(self._tree, self._places, place.path, content, self._spec)

    def _one_name(self, directory: str) -> str | None:
        """Give the name of a folder's kustomization file; two are an error, as kustomize says."""
        names = kustomization_names(self._tree, directory)
        for name in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
            self._places.look(self._path(directory, name))
        if len(names) > 1:
            listed = ", ".join(names)
            where = shown(self._root, directory)
            raise BuildError(f"{PREFIX}: Found multiple kustomization files under: {where}", detail=listed)
        return names[0] if names else None

    async def _kustomization(self, directory: str) -> JSON:
        """Read a folder's kustomization file, which exists."""
        name = self._one_name(directory) or ""
        place = self._local(directory, name, "kustomization file")
        if place is None or place.kind != "file":
            raise BuildError(f"{PREFIX}: {self._path(directory, name)} is not a file")
        return await self._document(place.path, directory)

    async def _document(self, path: str, directory: str) -> JSON:
        content = (await self._read([path]))[path]
        file = self._tree.file(path)
        try:
            return await self._known.kustomization(file.id if file else "", content, path)
        except yaml.YamlError as error:
            where = shown(self._root, directory)
            raise BuildError(
                f"{PREFIX}: couldn't make target for path '{where}': invalid Kustomization: {error.message}",
                place=error.place,
                detail=error.detail,
            ) from None

    async def _read(self, paths: list[str]) -> dict[str, bytes]:
        try:
            return await self._tree.read(paths, limit=files.MAX_FILE)
        except TreeError as error:
            raise BuildError(f"{PREFIX}: {error.message}", place=error.place) from None

    async def _next(self) -> None:
        """Look into every folder that is waiting."""
        visits, self._queue = self._queue, []
        for visit in visits:
            name = self._one_name(visit.directory)
            if name is None:
                # kustomize says what is missing; the folder must be there for that.
                continue
            content = await self._kustomization(visit.directory)
            try:
                content, unknown = canonical(content)
            except BuildError as error:
                where = shown(self._root, visit.directory)
                text = f"{PREFIX}: couldn't make target for path '{where}': {error.message}"
                raise BuildError(text) from None
            if unknown:
                self._found.whole = True
            self._take(visit, content, self._path(visit.directory, name))

    def _take(self, visit: _Visit, content: JSON, path: str) -> None:
        """Note a kustomization and everything that it names."""
        self._found.kustomizations[path] = content
        self._found.directories.add(visit.directory)
        try:
            named = files.named(content)
        except yaml.YamlError as error:
            raise BuildError(f"{PREFIX}: invalid Kustomization: {error.message}", place=path) from None
        self._found.texts += [(path, text) for text in named.texts]
        if not named.complete:
            self._found.whole = True
        if visit.owner is not None and named.changing:
            raise BuildError(
                f"{PREFIX}: {path} gives generators or transformers and uses {', '.join(named.changing)}",
                hint="a folder of plugins may only list resources, so that what they read can be vetted",
            )
        for target in named.bases:
            self._resource(visit, target)
        for target in named.files:
            self._file(visit.directory, target)
        for target in named.data:
            self._file(visit.directory, target, text=False)
        for target in named.plugins:
            self._plugin(visit.directory, target)
        for document in named.inline_plugins:
            self._plugin_document(visit.directory, document)

    def _resource(self, visit: _Visit, target: str) -> None:
        place = self._local(visit.directory, target, "resource")
        if place is None:
            return
        if place.kind == "dir":
            self._enqueue(visit.directory, _Visit(place.path, visit.owner))
            return
        self._add(place, text=True)
        if visit.owner is not None:
            self._found.plugins.append((place.path, visit.owner))

    def _plugin(self, directory: str, target: str) -> None:
        place = self._local(directory, target, "generator or transformer")
        if place is None:
            return
        if place.kind == "dir":
            self._enqueue(directory, _Visit(place.path, directory))
            return
        self._add(place, text=True)
        self._found.plugins.append((place.path, directory))

    def _enqueue(self, directory: str, visit: _Visit) -> None:
        self._found.edges.setdefault(directory, set()).add(visit.directory)
        self._found.directories.add(visit.directory)
        if visit.key in self._seen:
            return
        if len(self._seen) >= MAX_DIRECTORIES:
            raise BuildError(f"{PREFIX}: more than {MAX_DIRECTORIES} folders with a kustomization")
        self._seen.add(visit.key)
        self._queue.append(visit)

    def _file(self, directory: str, target: str, *, text: bool = True) -> None:
        place = self._local(directory, target, "file")
        if place is None:
            return
        if place.kind == "dir":
            self._found.directories.add(place.path)
        else:
            self._add(place, text=text)

    def _add(self, place: Place, *, text: bool) -> None:
        self._found.files.add(place.path)
        if text:
            self._found.yaml.add(place.path)

    async def _plugins(self) -> None:
        """Look for files that generators and transformers name in turn."""
        pending, self._found.plugins = self._found.plugins, []
        if not pending:
            return
        contents = await self._read(sorted({path for path, _ in pending}))
        for path, owner in pending:
            try:
                documents = await asyncio.to_thread(yaml.parse, contents[path], path, unique=True)
            except yaml.YamlError as error:
                text = f"{PREFIX}: {path}: {error.message}"
                raise BuildError(text, place=error.place, detail=error.detail) from None
            for document in documents:
                self._plugin_document(owner, document.value)

    def _plugin_document(self, directory: str, document: Any) -> None:
        for target, text in files.named_by_plugin(document):
            self._file(directory, target, text=text)

    def _local(self, directory: str, target: str, what: str) -> Place | None:
        """Resolve a path that a kustomization names; None when kustomize shall say that it is not there."""
        if is_remote(target):
            raise BuildError(
                f"{PREFIX}: accumulating resources: remote {what} '{_short(target)}' is not allowed",
                place=self._path(directory, "kustomization.yaml"),
                hint=_REMOTE_HINT,
            )
        try:
            place = self._places.resolve(directory, target)
        except Outside as error:
            raise self._outside(error, target) from None
        if place.kind != "absent":
            return place
        if not is_plain(target):
            raise BuildError(
                f"{PREFIX}: accumulating resources: '{_short(target)}': no such file or directory",
                place=self._path(directory, "kustomization.yaml"),
            )
        # The way to it must exist for kustomize's own words: they tell what of it is missing.
        return None

    def _outside(self, error: Outside, target: str) -> BuildError:
        where = error.path if error.path.startswith("/") else shown(self._root, error.path)
        return BuildError(
            f"{PREFIX}: accumulating resources: path '{_short(where)}' is not in or below '{self._root}'",
            detail=f"'{_short(target)}' leads out of the repository",
            hint="a build reads only files of its own source",
        )

    async def _contents(self) -> dict[str, bytes]:
        """Read every file of the closure, and put the kustomizations as they were understood."""
        wanted = set(self._found.files)
        if self._found.whole:
            self._places.below("")
            wanted |= {path for path, file in self._tree.walk() if file.link is None}
        wanted -= set(self._found.kustomizations)
        total = sum(file.size for path in wanted if (file := self._tree.file(path)))
        if total > MAX_BYTES:
            raise BuildError(f"{PREFIX}: the files of this build have more than {MAX_BYTES} bytes")
        contents = await self._read(sorted(wanted))
        ids = {path: file.id for path in self._found.yaml & wanted if (file := self._tree.file(path))}
        try:
            await self._known.check(
                {path: (ids[path], contents[path]) for path in sorted(ids)}, self._found.texts
            )
        except yaml.YamlLimit as error:
            raise BuildError(f"{PREFIX}: {error.message}", place=error.place, detail=error.detail) from None
        for path, content in self._found.kustomizations.items():
            contents[self._real(path)] = yaml.dump(content).encode()
        return contents

    def _real(self, path: str) -> str:
        """Give where a kustomization file is written; one that is a link is written in its own place."""
        self._places.links.pop(path, None)
        return path

    def _path(self, directory: str, name: str) -> str:
        return f"{directory}/{name}" if directory else name


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."
