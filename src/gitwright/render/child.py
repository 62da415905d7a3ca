"""One run of kustomize in a child process that can be killed.

Role in the flow: gets files that were vetted, writes them into a private folder, runs
kubectl on it and gives what it printed. It knows nothing of what the files mean.
Source: spec/security.md S3, S4, S10, S11; spec/dependencies.md 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gitwright.render.errors import BuildError

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What one build may use.

    Args:
        memory: bytes of address space; kubectl itself needs about a tenth of this.
        cpu: seconds of processor time over all its threads.
        output: bytes that it may print as its result.
        errors: bytes that it may print as errors; more is cut, not refused.
    """

    memory: int = 1536 * 1024 * 1024
    cpu: int = 300
    output: int = 64 * 1024 * 1024
    errors: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class Output:
    """What a child printed, and how it ended (negative: by a signal)."""

    stdout: bytes
    stderr: bytes
    status: int


@dataclass(frozen=True, slots=True)
class Folder:
    """What a build sees: directories, files and links by their path, all without links before them."""

    directories: frozenset[str]
    files: Mapping[str, bytes]
    links: Mapping[str, str]


async def build(
    kubectl: str, folder: Folder, directory: str, *, scratch: Path, timeout: float, limits: ChildLimits
) -> tuple[Output, str]:
    """Run `kubectl kustomize` on a directory of a folder.

    Args:
        kubectl: the binary.
        folder: what to write out.
        directory: which of its directories to build.
        scratch: where private folders are made; on memory (`/dev/shm`) it costs a tenth.
        timeout: seconds, after which the child and all its children are killed.
        limits: what it may use.

    Returns:
        What it printed, and the folder's path, which texts in it name and which is gone by then.

    Raises:
        BuildError: it took too long or printed too much.
    """
    root = await _written(scratch, folder)
    try:
        argv = [
            kubectl,
            "kustomize",
            "--load-restrictor=LoadRestrictionsNone",
            f"{root}/{directory}".rstrip("/"),
        ]
        return await run(argv, cwd=root, timeout=timeout, limits=limits), root
    finally:
        await asyncio.to_thread(shutil.rmtree, root, ignore_errors=True)


async def run(argv: list[str], *, cwd: str, timeout: float, limits: ChildLimits) -> Output:
    """Run a program in a process group of its own, without input, and collect what it prints.

    Cancelling kills the group.

    Raises:
        BuildError: it took longer than `timeout` seconds or printed more than its limit.
        OSError: the program could not be started.
    """
    process = await _start(argv, cwd, limits)
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await asyncio.gather(
                _collect(process.stdout, limits.output, refuse=True),
                _collect(process.stderr, limits.errors, refuse=False),
            )
            await process.wait()
    except TimeoutError:
        hint = "look for very deep or very many objects, or raise the build timeout"
        raise BuildError(f"kustomize build failed: no result after {timeout:g} s", hint=hint) from None
    finally:
        await _end(process)
    return Output(stdout, stderr, process.returncode or 0)


async def _start(argv: list[str], cwd: str, limits: ChildLimits) -> asyncio.subprocess.Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=_environment(cwd, limits),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A cancelled start would leave a child that nobody waits for.
        await _end(await starting)
        raise
    # By the parent and right after the start: code between fork and exec could deadlock.
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, limits.cpu),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, kind, (value, value))
    return process


def _environment(cwd: str, limits: ChildLimits) -> dict[str, str]:
    """Give the child's whole environment: no credentials, no way to a network, no other program."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": "/nonexistent",
        "HOME": cwd,
        "KUBECONFIG": "/dev/null",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "GOMEMLIMIT": str(limits.memory * 3 // 4),
        "GOTRACEBACK": "none",
    }


async def _collect(stream: asyncio.StreamReader | None, limit: int, *, refuse: bool) -> bytes:
    if stream is None:
        return b""
    parts: list[bytes] = []
    size = 0
    while part := await stream.read(_CHUNK):
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif refuse:
            raise BuildError(f"kustomize build failed: the result has more than {limit} bytes")
    return b"".join(parts)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the group, and wait for the child."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _written(scratch: Path, folder: Folder) -> str:
    writing = asyncio.ensure_future(asyncio.to_thread(_write, scratch, folder))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        # The thread cannot be stopped: wait for what it made, to remove it.
        await asyncio.to_thread(shutil.rmtree, await writing, ignore_errors=True)
        raise


def _write(scratch: Path, folder: Folder) -> str:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = tempfile.mkdtemp(prefix="kustomization-", dir=scratch)
    try:
        _fill(root, folder)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    return root


def _fill(root: str, folder: Folder) -> None:
    made = {""}
    for path in folder.directories:
        _directory(root, path, made)
    for path, content in folder.files.items():
        _directory(root, path.rpartition("/")[0], made)
        # Exclusive and never through a link: each path is written once, in a folder of our own.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(f"{root}/{path}", flags, 0o600), "wb") as file:
            file.write(content)
    for path, target in folder.links.items():
        _directory(root, path.rpartition("/")[0], made)
        Path(root, path).symlink_to(target)


def _directory(root: str, path: str, made: set[str]) -> None:
    if path in made:
        return
    _directory(root, path.rpartition("/")[0], made)
    Path(root, path).mkdir(mode=0o700)
    made.add(path)
