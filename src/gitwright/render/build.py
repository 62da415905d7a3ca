"""The renderer: vet, build, substitute, and remember.

Role in the flow: the one door to this room. It hands on frozen manifests and keeps what
it gave, by everything that went in (S7), so that a commit that touches one folder of a
thousand builds one. It knows no cluster and not where variables come from.
Source: spec/flux-v2.md 3.3 items 1-2, 3.4; spec/security.md S3, S7, S10.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import gitwright
from gitwright.artifact.tree import Tree
from gitwright.core.errors import GitwrightError, Transient
from gitwright.core.objects import Manifest
from gitwright.formats import yaml
from gitwright.render import child
from gitwright.render.errors import PREFIX, BuildError, folder, shown
from gitwright.render.files import Known
from gitwright.render.generate import BuildSpec
from gitwright.render.output import finish
from gitwright.render.paths import hold
from gitwright.render.substitute import Substitution
from gitwright.render.vet import Closure, vet

Observe = Callable[[str, float], None]

_PER_INPUT = 4
"""Builds kept of one spec: enough for a revert, or branches that share a spec."""
_TEXT = 4000
"""Characters of kustomize's error that are handed on."""
# A file that the generator listed, and what kustomize has against it.
_LISTED = re.compile(
    r"accumulating resources: (?:accumulation err=')?accumulating resources from '\./(?P<path>[^']+)': "
    r"(?P<cause>.*?)(?:': must build at directory: .*)?\Z",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The result of a build.

    Args:
        manifests: the objects in kustomize's order.
        digest: `sha256:` and the digest of the built YAML, as Flux's history has it.
        remembered: whether it was built before, for exactly these inputs.
        warnings: what a user should know although it builds.
    """

    manifests: tuple[Manifest, ...]
    digest: str
    remembered: bool
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Memory:
    """A build that was done: the facts it rests on, and what came out.

    Args:
        facts: what must be true of a tree.
        root: digest of the last whole tree of which they were.
        rendered: the result.
    """

    facts: tuple[tuple[str, str], ...]
    root: str
    rendered: Rendered


class Renderer:
    """Builds manifests of trees, and remembers them.

    Args:
        kubectl: the kubectl binary, whose kustomize builds.
        workers: builds that run at the same time.
        timeout: seconds that one build may take.
        scratch: folder for what a build reads; best on memory, such as below `/dev/shm`.
        remember: results to keep.
        limits: what one build may use.
        key: makes the digests of variables useless to anyone else; by default a fresh one.
        observe: told of every build: `hit` (remembered), `miss` or `error`, and its seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        kubectl: str,
        workers: int,
        timeout: float,
        scratch: Path,
        remember: int,
        limits: child.ChildLimits | None = None,
        key: bytes = b"",
        observe: Observe | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubectl = kubectl
        self._timeout = timeout
        self._scratch = scratch
        self._remember = remember
        self._limits = limits or child.ChildLimits()
        # Kept in memory alone; a plain digest would let a secret value be guessed and checked.
        self._key = key or secrets.token_bytes(32)
        self._observe = observe or (lambda _result, _seconds: None)
        self._clock = clock
        self._workers = asyncio.Semaphore(workers)
        self._known = Known()
        self._memory: OrderedDict[str, list[_Memory]] = OrderedDict()

    def peek(self, tree: Tree, spec: BuildSpec, substitution: Substitution | None) -> Rendered | None:
        """Give the result for exactly these inputs if it is remembered; it costs microseconds.

        Args:
            tree: the files; another tree will do in which everything the build read is the same.
            spec: what was built.
            substitution: the variables; None without postBuild.
        """
        key = self._input(spec, substitution)
        memories = self._memory.get(key, [])
        root = tree.digest()
        for index, memory in enumerate(memories):
            if memory.root == root or hold(tree, memory.facts):
                memory.root = root
                memories.insert(0, memories.pop(index))
                self._memory.move_to_end(key)
                return memory.rendered
        return None

    async def render(self, tree: Tree, spec: BuildSpec, substitution: Substitution | None) -> Rendered:
        """Build the manifests of a tree, or remember them.

        Cancelling kills the build.

        Args:
            tree: the files.
            spec: what to build of them.
            substitution: the variables; None without postBuild.

        Raises:
            Transient: the path is not in the tree (reason ArtifactFailed).
            BuildError: kustomize or our vetting refuses it (reason BuildFailed), in Flux's words first.
            SubstitutionError: a variable is not set, or an expression is none.
            YamlError: the built YAML cannot be read.
        """
        found = self.peek(tree, spec, substitution)
        if found is not None:
            self._observe("hit", 0.0)
            return found
        key = self._input(spec, substitution)
        async with self._workers:
            began = self._clock()
            try:
                rendered, facts = await self._render(tree, spec, substitution)
            except GitwrightError:
                self._observe("error", self._clock() - began)
                raise
            self._observe("miss", self._clock() - began)
        self._keep(key, _Memory(facts, tree.digest(), replace(rendered, remembered=True)))
        return rendered

    async def _render(
        self, tree: Tree, spec: BuildSpec, substitution: Substitution | None
    ) -> tuple[Rendered, tuple[tuple[str, str], ...]]:
        """Build, and give the result and the facts it rests on."""
        root = folder(spec.digest())
        closure = await vet(tree, spec, root, self._known)
        text, warnings = await self._build(closure, root)
        manifests, digest = await asyncio.to_thread(finish, text, substitution)
        return Rendered(manifests, digest, False, (*closure.warnings, *warnings)), closure.facts

    def _input(self, spec: BuildSpec, substitution: Substitution | None) -> str:
        """Give the digest of every input but the tree."""
        values: Mapping[str, str] = substitution.variables if substitution is not None else {}
        parts = (
            gitwright.__version__,
            self._kubectl,
            _identity(self._kubectl),
            spec.digest(),
            None if substitution is None else (substitution.strategy, substitution.strict),
            sorted(values.items()),
        )
        return hashlib.blake2b(json.dumps(parts).encode(), key=self._key, digest_size=32).hexdigest()

    def _keep(self, key: str, memory: _Memory) -> None:
        memories = self._memory.setdefault(key, [])
        memories.insert(0, memory)
        del memories[_PER_INPUT:]
        self._memory.move_to_end(key)
        while sum(map(len, self._memory.values())) > self._remember:
            oldest = next(iter(self._memory))
            self._memory[oldest].pop()
            if not self._memory[oldest]:
                del self._memory[oldest]

    async def _build(self, closure: Closure, root: str) -> tuple[str, tuple[str, ...]]:
        """Run kustomize on a closure; give the YAML and warnings."""
        written = child.Folder(closure.directories, closure.contents, closure.links)
        try:
            output, real = await child.build(
                self._kubectl,
                written,
                closure.directory,
                scratch=self._scratch,
                timeout=self._timeout,
                limits=self._limits,
            )
        except OSError as error:
            # The engine's own trouble: no kubectl, no space, no more processes.
            text = f"{PREFIX}: cannot run kustomize: {error.strerror}"
            raise Transient(text, reason="BuildFailed", place=error.filename or "") from error
        said = output.stderr.decode(errors="replace").replace(real, root)
        if output.status != 0:
            raise await asyncio.to_thread(_failure, said, output.status, closure, root)
        warnings = tuple(line.lstrip("# ") for line in said.splitlines() if line.startswith("# Warning"))
        return await asyncio.to_thread(output.stdout.decode, "utf-8", "replace"), warnings


def _identity(program: str) -> tuple[int, int, int]:
    """Tell one version of a program from the next without running it; a missing one is found by its use."""
    try:
        found = os.stat(program)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


# How Go says, at different depths of its runtime, that the address space is used up.
_NO_MEMORY = (
    "out of memory",
    "cannot allocate memory",
    "failed to reserve",
    "failed to create new OS thread",
)


def _failure(said: str, status: int, closure: Closure, root: str) -> BuildError:
    """Word what kustomize said as Flux does, and add where the fault is."""
    text = said.strip().removeprefix("error: ")
    if any(words in text for words in _NO_MEMORY):
        return BuildError(f"{PREFIX}: out of memory", hint="a build this large is refused; split the folder")
    if status < 0:
        return BuildError(f"{PREFIX}: kustomize was ended by signal {-status}")
    if text.startswith(("panic:", "fatal error:")):
        return BuildError(f"recovered from kustomize build panic: {text.splitlines()[0].partition(': ')[2]}")
    message = f"{PREFIX}: {text[:_TEXT]}"
    listed = _LISTED.match(text) if closure.created else None
    if listed is not None:
        # Flux decodes what its generator lists before kustomize sees it, and says so.
        path = f"{closure.directory}/{listed['path']}" if closure.directory else listed["path"]
        if path in closure.contents:
            message = f"failed to decode Kubernetes YAML from {shown(root, path)}: {listed['cause'][:_TEXT]}"
    place, detail = _fault(closure)
    return BuildError(message, place=place, detail=detail)


def _fault(closure: Closure) -> tuple[str, str]:
    """Find the first file of a closure that is no YAML: its place, and what is wrong there."""
    for path, content in sorted(closure.contents.items()):
        if not path.endswith((".yaml", ".yml", ".json")):
            continue
        try:
            yaml.check(content, path)
        except yaml.YamlError as error:
            return error.place, f"{error.problem} ({error.detail})"
    return "", ""
