"""Builds the real control plane's program and keeps it; `make realcluster` runs this.

Role: turns the Go sources of this folder into one binary in the user's cache, named by
their content, so that it is built once for each version of them. Knows nothing of how
the binary is run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SOURCES = Path(__file__).parent
KUBERNETES = "v1.37.2"
OLDEST_GO = (1, 26)

# Without a version in the binary /version is empty and clients complain.
_MAJOR, _MINOR = KUBERNETES.removeprefix("v").split(".")[:2]
_LDFLAGS = (
    "-s -w"
    f" -X k8s.io/component-base/version.gitVersion={KUBERNETES}"
    f" -X k8s.io/component-base/version.gitMajor={_MAJOR}"
    f" -X k8s.io/component-base/version.gitMinor={_MINOR}"
)


class BuildError(RuntimeError):
    """The control plane cannot be built here; the message says what to do."""


def binary_path(environment: Mapping[str, str]) -> Path:
    """Say where the binary of the present sources belongs.

    Args:
        environment: `XDG_CACHE_HOME` and `HOME` are read.
    """
    cache = environment.get("XDG_CACHE_HOME") or str(
        Path(environment.get("HOME", "~")).expanduser() / ".cache"
    )
    digest = hashlib.sha256(_LDFLAGS.encode())
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update(name.encode() + b"\0" + (SOURCES / name).read_bytes())
    return Path(cache) / "gitwright" / f"realcluster-{digest.hexdigest()[:16]}"


def build(environment: Mapping[str, str], *, say: bool = True) -> Path:
    """Give the binary, building it first when it is not there (8 minutes cold on two cores).

    Two builds at the same time wait for each other.

    Args:
        environment: of the build; `PATH` finds Go.
        say: tell on stderr that it takes a while.

    Raises:
        BuildError: Go is missing or too old, or the build failed.
    """
    path = binary_path(environment)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path
        go = _go(environment)
        if say:
            print(f"building the real control plane (Kubernetes {KUBERNETES}) ...", file=sys.stderr)  # noqa: T201
        fresh = path.with_suffix(".new")
        command = [go, "build", "-trimpath", "-ldflags", _LDFLAGS, "-o", str(fresh), "."]
        done = subprocess.run(command, cwd=SOURCES, env=dict(environment), capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"the real control plane was not built:\n{done.stderr[-4000:]}")
        fresh.replace(path)
    return path


def _go(environment: Mapping[str, str]) -> str:
    wanted = ".".join(map(str, OLDEST_GO))
    go = shutil.which("go", path=environment.get("PATH"))
    if not go:
        raise BuildError(
            f"Go >= {wanted} is needed to build the real control plane, and no `go` was found on the PATH.\n"
            "hint: install it from https://go.dev/dl, or name a cluster in GITWRIGHT_TEST_KUBECONFIG"
        )
    # Run in the module's folder, where Go may choose a newer toolchain of its own.
    done = subprocess.run([go, "version"], cwd=SOURCES, env=dict(environment), capture_output=True, text=True)
    found = re.search(r"go(\d+)\.(\d+)", done.stdout)
    if not found or (int(found[1]), int(found[2])) < OLDEST_GO:
        shown = (done.stdout or done.stderr).strip()
        raise BuildError(
            f"Go >= {wanted} is needed to build the real control plane; {go} says: {shown}\n"
            "hint: install a newer one from https://go.dev/dl"
        )
    return go


def main() -> int:
    """Build if needed and print the binary's path."""
    try:
        print(build(os.environ))  # noqa: T201
    except BuildError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
