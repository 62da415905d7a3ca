"""The renderer builds as Flux does, with the real kustomize, and remembers by all that went in."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import gitwright
from gitwright.artifact.tree import Tree
from gitwright.core.errors import GitwrightError, Stalled, Transient
from gitwright.core.objects import JSON
from gitwright.render import BuildSpec, Renderer, Substitution
from gitwright.render.child import ChildLimits, run
from gitwright.render.substitute import SubstitutionError
from tests.sandbox.trees import tree_of

KUBECTL = str(Path(sysconfig.get_path("scripts"), "kubectl"))
APP = BuildSpec(path="./app")


def config_map(name: str, **data: str) -> str:
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n"
    return text + ("data:\n" + "".join(f"  {key}: {value}\n" for key, value in data.items()) if data else "")


@pytest.fixture
def renderer(tmp_path: Path) -> Renderer:
    return make(tmp_path / "scratch")


def make(scratch: Path, **options: Any) -> Renderer:
    wanted: dict[str, Any] = {"kubectl": KUBECTL, "workers": 2, "timeout": 30, "remember": 100}
    return Renderer(scratch=scratch, **{**wanted, **options})


async def objects(renderer: Renderer, tree: Tree, spec: BuildSpec = APP, **variables: str) -> list[JSON]:
    substitution = Substitution(variables) if variables else None
    return [manifest.load() for manifest in (await renderer.render(tree, spec, substitution)).manifests]


async def names(renderer: Renderer, tree: Tree, spec: BuildSpec = APP) -> list[str]:
    return [f"{obj['kind']}/{obj['metadata']['name']}" for obj in await objects(renderer, tree, spec)]


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


async def failure(renderer: Renderer, tree: Tree, spec: BuildSpec = APP, **variables: str) -> GitwrightError:
    with pytest.raises(GitwrightError) as caught:
        await objects(renderer, tree, spec, **variables)
    return caught.value


async def test_an_overlay_is_built(renderer: Renderer, tmp_path: Path) -> None:
    """A base beside the path is built with the overlay's changes, and nothing stays on disk."""
    tree = tree_of(
        {
            "app/kustomization.yaml": "resources: [../base]\nnamespace: prod\nnamePrefix: x-\n",
            "base/kustomization.yaml": "resources: [a.yaml]\n"
            "configMapGenerator:\n- {name: g, files: [k=../f.txt]}\n",
            "base/a.yaml": config_map("a", k="v"),
            "f.txt": "hello",
        }
    )
    rendered = await renderer.render(tree, APP, None)
    first, second = (manifest.load() for manifest in rendered.manifests)
    assert first == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x-a", "namespace": "prod"},
        "data": {"k": "v"},
    }
    assert second["metadata"]["name"].startswith("x-g-")
    assert second["data"] == {"k": "hello"}
    assert rendered.digest.startswith("sha256:")
    assert not rendered.remembered
    assert os.listdir(tmp_path / "scratch") == []


async def test_a_kustomization_is_generated_where_there_is_none(renderer: Renderer) -> None:
    """Every YAML file below the path is a resource, a folder with its own kustomization is one as a whole."""
    tree = tree_of(
        {
            "app/x/a.yaml": config_map("a"),
            "app/b.yml": config_map("b") + "---\n" + config_map("c"),
            "app/notes.txt": "no",
            "app/own/kustomization.yml": "resources: [d.yaml]\nnameSuffix: -y\n",
            "app/own/d.yaml": config_map("d"),
            "app/own/unnamed.yaml": config_map("e"),
            "app/own/deep/f.yaml": config_map("f"),
        },
        {"app/link.yaml": "x/a.yaml"},
    )
    assert await names(renderer, tree) == ["ConfigMap/b", "ConfigMap/c", "ConfigMap/d-y", "ConfigMap/a"]


async def test_an_empty_folder_builds_nothing(renderer: Renderer) -> None:
    """A folder without any YAML, and a kustomization without resources, are valid and empty."""
    assert await names(renderer, tree_of({"app/README.md": "x"})) == []
    assert await names(renderer, tree_of({"app/kustomization.yaml": ""})) == []


async def test_the_spec_is_merged_as_flux_merges_it(renderer: Renderer) -> None:
    """Patches and components are appended, images merged by name, namespace, prefix and suffix replaced."""
    deployment = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  template:\n"
        "    spec:\n      containers:\n      - {name: a, image: 'r.io/a:1'}\n"
        "      - {name: b, image: 'r.io/b:1'}\n"
        "      - {name: c, image: 'r.io/c:1'}\n"
    )
    images = (
        "images:\n- {name: r.io/a, newTag: 1.1}\n- {name: r.io/b, newName: m.io/b, digest: 'sha256:00'}\n"
    )
    tree = tree_of(
        {
            "app/kustomization.yaml": f"resources: [d.yaml]\nnamespace: old\nnamePrefix: 7\n{images}",
            "app/d.yaml": deployment,
            "part/kustomization.yaml": "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\n"
            "resources: [cm.yaml]\n",
            "part/cm.yaml": config_map("extra"),
        }
    )
    spec = BuildSpec(
        path="app",
        target_namespace="new",
        name_suffix="-s",
        patches=(
            {"patch": "- {op: replace, path: /spec/replicas, value: 5}", "target": {"kind": "Deployment"}},
            {"patch": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {paused: true}\n"},
        ),
        images=({"name": "r.io/b", "newTag": "2"}, {"name": "r.io/c", "newName": "n.io/c"}),
        components=("../part", "../gone"),
        ignore_missing_components=True,
    )
    web, extra = await objects(renderer, tree, spec)
    assert web["metadata"] == {"name": "7web-s", "namespace": "new"}
    assert (web["spec"]["replicas"], web["spec"]["paused"]) == (5, True)
    containers = web["spec"]["template"]["spec"]["containers"]
    assert [container["image"] for container in containers] == ["r.io/a:1.1", "m.io/b:2", "n.io/c:1"]
    assert extra["metadata"] == {"name": "7extra-s", "namespace": "new"}


async def test_components_must_be_local(renderer: Renderer) -> None:
    """A component of the spec that is remote or absolute is refused in Flux's words."""
    tree = tree_of({"app/a.yaml": config_map("a")})
    for component in ("https://example.com/c", "/etc", "github.com/o/r"):
        error = await failure(renderer, tree, BuildSpec(path="app", components=(component,)))
        assert error.message == f"component path '{component}' must be local and relative"
        assert error.reason == "BuildFailed"


async def test_build_metadata_and_warnings(renderer: Renderer) -> None:
    """Origins are noted when asked for; an unknown field of the root is left out with a warning."""
    tree = tree_of(
        {"app/kustomization.yaml": "resources: [a.yaml]\nnonsense: 1\n", "app/a.yaml": config_map("a")}
    )
    rendered = await renderer.render(tree, BuildSpec(path="app", build_metadata=("originAnnotations",)), None)
    annotations = rendered.manifests[0].load()["metadata"]["annotations"]
    assert annotations == {"config.kubernetes.io/origin": "path: a.yaml\n"}
    assert rendered.warnings == ("kustomization.yaml: unknown field 'nonsense' is ignored",)


async def test_lists_are_taken_apart_and_kustomizes_own_kinds_left_out(renderer: Renderer) -> None:
    """Items of lists become objects of their own, and what is kustomize's own is not applied."""
    text = (
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n"
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Settings\nmetadata: {name: s}\n---\n"
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: k}\n---\n"
        "apiVersion: example.org/v1\nkind: Basket\nmetadata: {name: b}\n"
        "items: [{apiVersion: v1, kind: Secret, metadata: {name: z}}]\n"
    )
    found = await names(renderer, tree_of({"app/a.yaml": text}))
    assert found == ["Kustomization/k", "Secret/z", "ConfigMap/a"]


async def test_values_keep_gos_types(renderer: Renderer) -> None:
    """What kustomize writes is read as Go does: quoted words stay strings, numbers are as Go has them."""
    text = (
        config_map("a")
        + "data:\n  a: 'yes'\n  b: '0644'\n  c: '1e3'\n  d: |\n    ---\n    x: y\n  e: '1:30'\n"
    )
    (obj,) = await objects(renderer, tree_of({"app/a.yaml": text}))
    assert obj["data"] == {"a": "yes", "b": "0644", "c": "1e3", "d": "---\nx: y\n", "e": "1:30"}
    text = "apiVersion: e.org/v1\nkind: X\nmetadata: {name: x}\n"
    text += "spec: {mode: 0644, on: yes, n: 1e3, big: 1.5e30}\n"
    (obj,) = await objects(renderer, tree_of({"app/a.yaml": text}))
    assert obj["spec"] == {"mode": 420, "on": "yes", "n": 1000, "big": 1.5e30}


SUBSTITUTED = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data:
  region: ${region}
  size: "${size}"
  colour: ${colour:=blue}
  upper: ${region^^}
  kept: $${region}
  part: ${region:0:1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: raw, annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}}
data: {region: '${region}'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: raw2, labels: {kustomize.toolkit.fluxcd.io/substitute: disabled}}
data: {region: '${region'}
"""


async def test_variables_are_substituted_in_the_built_text(renderer: Renderer) -> None:
    """Substitution works on kustomize's YAML text, so a quoted expression may become a number, as in Flux."""
    tree = tree_of({"app/a.yaml": SUBSTITUTED})
    first, raw, raw2 = await objects(renderer, tree, region="u\ns", size="7")
    assert first["data"] == {
        "region": "us",
        "size": 7,
        "colour": "blue",
        "upper": "US",
        "kept": "${region}",
        "part": "u",
    }
    assert raw["data"] == {"region": "${region}"}
    assert raw2["data"] == {"region": "${region"}


async def test_substitution_errors_name_the_object(renderer: Renderer) -> None:
    """A variable that is not set, a bad name and a value that is no YAML fail with Flux's words."""
    tree = tree_of({"app/a.yaml": config_map("a", x="${none}")})
    error = await failure(renderer, tree, other="1")
    assert error.message == (
        "post build failed for 'ConfigMap.v1.[noGrp]/a': envsubst error: "
        'variable substitution failed: variable not set (strict mode): "none"'
    )
    assert error.reason == "BuildFailed"
    with pytest.raises(SubstitutionError, match="envsubst error: 'no-name' var name is invalid, must match"):
        await renderer.render(tree, APP, Substitution({"no-name": "1"}))
    error = await failure(renderer, tree, none="*hunter2")
    assert error.message.startswith(
        "post build failed for 'ConfigMap.v1.[noGrp]/a': envsubst error: YAMLToJSON: yaml"
    )
    assert "hunter2" not in str(error)


async def test_when_variables_are_substituted(renderer: Renderer) -> None:
    """Without variables nothing happens unless the strategy is Always; not strict, unset means empty."""
    tree = tree_of({"app/a.yaml": config_map("a", x="${none:=d}", y="x${none}")})

    async def data(substitution: Substitution) -> Any:
        return (await renderer.render(tree, APP, substitution)).manifests[0].load()["data"]

    assert await data(Substitution({})) == {"x": "${none:=d}", "y": "x${none}"}
    assert await data(Substitution({}, strategy="Always", strict=False)) == {"x": "d", "y": "x"}
    with pytest.raises(SubstitutionError):
        await data(Substitution({}, strategy="Always"))


async def test_the_digest_is_that_of_the_built_yaml(renderer: Renderer) -> None:
    """The digest is the SHA-256 of what kustomize printed, and another one after a substitution."""
    tree = tree_of({"app/a.yaml": config_map("a", x="${x:=y}")})
    plain = await renderer.render(tree, APP, None)
    text = "apiVersion: v1\ndata:\n  x: ${x:=y}\nkind: ConfigMap\nmetadata:\n  name: a\n"
    assert plain.digest == digest_of(text)
    changed = await renderer.render(tree, APP, Substitution({"x": "z"}))
    assert changed.digest == digest_of(text.replace("${x:=y}", "z"))


async def test_broken_yaml_is_named_with_file_and_line(renderer: Renderer) -> None:
    """Flux's message comes first, then the file and the line of the fault."""
    broken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\ndata: {k: v}\n"
    tree = tree_of({"app/kustomization.yaml": "resources: [a.yaml]\n", "app/a.yaml": broken})
    error = await failure(renderer, tree)
    assert error.reason == "BuildFailed"
    assert isinstance(error, Stalled)
    assert error.message.startswith(
        "kustomize build failed: accumulating resources: accumulating resources from 'a.yaml': "
        "MalformedYAMLError: yaml: line"
    )
    assert error.place == "app/a.yaml:4"
    error = await failure(renderer, tree_of({"app/deep/a.yaml": config_map("b") + "---\n" + broken}))
    assert error.message.startswith("failed to decode Kubernetes YAML from /tmp/kustomization-")
    assert "/app/deep/a.yaml: MalformedYAMLError: " in error.message
    assert error.place == "app/deep/a.yaml:9"
    assert "document 2" in error.detail


async def test_a_file_that_is_no_object_is_named(renderer: Renderer) -> None:
    """A YAML file below the path that is no Kubernetes object fails the build, with its name, as in Flux."""
    error = await failure(renderer, tree_of({"app/values.yaml": "replicas: 1\n"}))
    assert error.reason == "BuildFailed"
    assert error.message.startswith("failed to decode Kubernetes YAML from /tmp/kustomization-")
    assert "/app/values.yaml: " in error.message


async def test_a_missing_file_is_told_in_flux_words(renderer: Renderer, tmp_path: Path) -> None:
    """The message names Flux's temporary folder, not ours, and is the same at the next try."""
    tree = tree_of({"app/kustomization.yaml": "resources: [none.yaml]\n"})
    error = await failure(renderer, tree)
    folder = error.message.partition("open ")[2].partition("/app/")[0]
    assert folder.removeprefix("/tmp/kustomization-").isdigit()
    path = f"{folder}/app/none.yaml"
    assert error.message == (
        "kustomize build failed: accumulating resources: accumulation err='accumulating resources from "
        f"'none.yaml': open {path}: no such file or directory': must build at directory: not a valid "
        f"directory: evalsymlink failure on '{path}' : lstat {path}: no such file or directory"
    )
    assert str(await failure(make(tmp_path / "elsewhere"), tree)) == str(error)


async def test_a_missing_path_is_an_error_of_the_artifact(renderer: Renderer) -> None:
    """A path that the artifact lacks gives ArtifactFailed and may be tried again."""
    error = await failure(renderer, tree_of({"other/a.yaml": config_map("a")}))
    assert isinstance(error, Transient)
    assert error.reason == "ArtifactFailed"


@pytest.mark.parametrize(
    ("files", "links", "said"),
    [
        (
            {"app/kustomization.yaml": "resources: [a.yaml]\n"},
            {"app/a.yaml": "../../x"},
            "is not in or below",
        ),
        ({"app/kustomization.yaml": "resources: [../..]\n"}, {}, "is not in or below"),
        ({"app/kustomization.yaml": "resources: ['https://example.com/x']\n"}, {}, "is not allowed"),
        (
            {
                "app/kustomization.yaml": "resources: [../b]\n",
                "b/kustomization.yaml": "resources: [../app]\n",
            },
            {},
            "cycle detected",
        ),
        (
            {"app/a.yaml": "a: &a [x, x]\n" + "b: &b [*a, *a]\n" * 3 + "c: [" + "*b, " * 30_000 + "]\n"},
            {},
            "aliasing",
        ),
    ],
)
async def test_hostile_input_fails_before_kustomize_runs(
    files: Mapping[str, str], links: Mapping[str, str], said: str, tmp_path: Path
) -> None:
    """What leaves the tree, fetches, goes in circles or expands is refused without any child."""
    renderer = make(tmp_path, kubectl="/nonexistent/kubectl")
    error = await failure(renderer, tree_of(files, links))
    assert said in error.message
    assert error.reason == "BuildFailed"


async def test_a_missing_kubectl_is_our_own_trouble(tmp_path: Path) -> None:
    """Without kubectl the build may be tried again, and the error says what is missing."""
    error = await failure(
        make(tmp_path, kubectl="/nonexistent/kubectl"), tree_of({"app/a.yaml": config_map("a")})
    )
    assert isinstance(error, Transient)
    assert "cannot run kustomize" in error.message
    assert error.place == "/nonexistent/kubectl"


async def test_an_object_without_a_version_is_refused(renderer: Renderer) -> None:
    """What kustomize lets pass without an apiVersion fails with Flux's words, without its content."""
    text = "piVersion: v1\nkind: Provider\nmetadata: {name: p}\nspec: {token: hunter2}\n"
    error = await failure(
        renderer, tree_of({"app/kustomization.yaml": "resources: [a.yaml]\n", "app/a.yaml": text})
    )
    assert error.message.startswith("failed to decode Kubernetes apiVersion, kind and name from: ")
    assert "'Provider'" in error.message
    assert "hunter2" not in str(error)


def many(count: int) -> Tree:
    return tree_of({"app/a.yaml": "---\n".join(config_map(f"a{number}", k="v") for number in range(count))})


async def test_a_build_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    """A build beyond its time limit is killed with all it started, and its files are removed."""
    started = time.perf_counter()
    error = await failure(make(tmp_path, timeout=0.3), many(3000))
    assert time.perf_counter() - started < 3
    assert "no result after 0.3 s" in error.message
    assert os.listdir(tmp_path) == []
    assert children() == set()


def children() -> set[int]:
    """Give the process ids of this process' living children."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=,comm=", "--ppid", str(os.getpid())], capture_output=True, check=False
    )
    rows = [line.split() for line in found.stdout.decode().splitlines()]
    return {int(row[0]) for row in rows if not row[1].startswith("Z") and row[2] == "kubectl"}


async def test_cancelling_kills_the_build(tmp_path: Path) -> None:
    """A cancelled render leaves neither a process nor a file."""
    task = asyncio.ensure_future(make(tmp_path).render(many(3000), APP, None))
    for _ in range(500):
        await asyncio.sleep(0.01)
        if children():
            break
    assert children()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == set()
    assert os.listdir(tmp_path) == []


async def test_limits_of_the_child_hold(tmp_path: Path) -> None:
    """Too much memory, output or processor time fails the build with a message that says so."""
    error = await failure(make(tmp_path, limits=ChildLimits(output=200)), many(10))
    assert error.message == "kustomize build failed: the result has more than 200 bytes"
    assert len(await objects(make(tmp_path, limits=ChildLimits(output=2000)), many(10))) == 10
    # The limits are set right after the start; a large build still asks for memory by then.
    error = await failure(make(tmp_path, limits=ChildLimits(memory=200 << 20)), many(3000))
    assert error.message == "kustomize build failed: out of memory"
    error = await failure(make(tmp_path, limits=ChildLimits(cpu=1)), many(20_000))
    assert error.message == "kustomize build failed: kustomize was ended by signal 9"


async def test_a_child_gets_its_limits_and_nothing_else(tmp_path: Path) -> None:
    """A child has our limits and its own session, and neither input nor our environment."""
    script = "ulimit -v; ulimit -t; ulimit -c; env | sort; ps -o sid= -p $$; wc -c"
    limits = ChildLimits(memory=1 << 30, cpu=7)
    os.environ["SECRET_TOKEN"] = "hunter2"
    try:
        # The limits are set right after the start, so the script waits for them.
        argv = ["/bin/sh", "-c", f"export PATH=/bin:/usr/bin; sleep 0.2; sh -c '{script}'"]
        output = await run(argv, cwd=str(tmp_path), timeout=10, limits=limits)
    finally:
        del os.environ["SECRET_TOKEN"]
    said = output.stdout.decode()
    assert said.split()[:3] == [str(1 << 20), "7", "0"]
    assert "hunter2" not in said
    assert "KUBECONFIG=/dev/null" in said
    assert "HTTPS_PROXY=http://127.0.0.1:9" in said
    session, read = said.split()[-2:]
    assert int(session) != os.getsid(0)
    assert read == "0"


FILES = {
    "app/kustomization.yaml": "resources: [a.yaml, ../base]\n",
    "app/a.yaml": config_map("a", x="${x}"),
    "base/kustomization.yaml": "resources: [b.yaml]\n",
    "base/b.yaml": config_map("b"),
    "other/c.yaml": config_map("c"),
}
VALUES = Substitution({"x": "1"})


async def test_a_build_is_remembered(renderer: Renderer) -> None:
    """The same inputs are built once; also when an unrelated file changed, and when only `peek` asks."""
    tree = tree_of(FILES)
    assert renderer.peek(tree, APP, VALUES) is None
    first = await renderer.render(tree, APP, VALUES)
    unrelated = tree_of({**FILES, "other/c.yaml": config_map("c", new="x"), "new/d.yaml": "x"})
    for again in (tree, tree_of(FILES), unrelated):
        found = renderer.peek(again, APP, VALUES)
        assert found is not None
        assert (found.manifests, found.digest, found.remembered) == (first.manifests, first.digest, True)
        assert (await renderer.render(again, APP, VALUES)).remembered


@pytest.mark.parametrize(
    ("files", "spec", "substitution"),
    [
        ({"app/a.yaml": config_map("a", x="${x}", y="z")}, {}, VALUES),
        ({"app/kustomization.yaml": "resources: [../base]\n"}, {}, VALUES),
        ({"base/b.yaml": config_map("b", y="z")}, {}, VALUES),
        ({"base/kustomization.yaml": "resources: []\n"}, {}, VALUES),
        ({"base/Kustomization": ""}, {}, VALUES),
        ({}, {"path": "base"}, VALUES),
        ({}, {"target_namespace": "n"}, VALUES),
        ({}, {"name_prefix": "n"}, VALUES),
        ({}, {"name_suffix": "n"}, VALUES),
        ({}, {"patches": ({"patch": "x"},)}, VALUES),
        ({}, {"images": ({"name": "x", "newTag": "y"},)}, VALUES),
        ({}, {"components": ("../c",)}, VALUES),
        ({}, {"ignore_missing_components": True}, VALUES),
        ({}, {"build_metadata": ("originAnnotations",)}, VALUES),
        ({}, {}, None),
        ({}, {}, Substitution({"x": "2"})),
        ({}, {}, Substitution({"x": "1", "y": ""})),
        ({}, {}, Substitution({"x": "1"}, strategy="Always")),
        ({}, {}, Substitution({"x": "1"}, strict=False)),
    ],
)
async def test_any_other_input_is_built_anew(
    renderer: Renderer, files: dict[str, str], spec: dict[str, Any], substitution: Substitution | None
) -> None:
    """A change of any input, one at a time, is not answered from memory (S7)."""
    await renderer.render(tree_of(FILES), APP, VALUES)
    assert renderer.peek(tree_of(FILES), APP, VALUES) is not None
    changed = tree_of({**FILES, **files})
    fields = {name: getattr(APP, name) for name in BuildSpec.__slots__}
    assert renderer.peek(changed, BuildSpec(**{**fields, **spec}), substitution) is None


async def test_another_tool_or_engine_is_another_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new kubectl at the same place and a new version of the engine are not answered from memory (S7)."""
    kubectl = tmp_path / "kubectl"
    shutil.copy(KUBECTL, kubectl)
    renderer = make(tmp_path / "scratch", kubectl=str(kubectl))
    tree = tree_of(FILES)
    await renderer.render(tree, APP, VALUES)
    assert renderer.peek(tree, APP, VALUES) is not None
    with monkeypatch.context() as patched:
        patched.setattr(gitwright, "__version__", "0.0.0")
        assert renderer.peek(tree, APP, VALUES) is None
    os.utime(kubectl, (1, 1))
    assert renderer.peek(tree, APP, VALUES) is None


async def test_memory_is_bounded(tmp_path: Path) -> None:
    """Only as many results are kept as were asked for, the least recently used go first."""
    renderer = make(tmp_path, remember=2)
    tree = tree_of({"app/a.yaml": config_map("a")})
    specs = [BuildSpec(path="app", name_prefix=prefix) for prefix in ("x", "y", "z")]
    await renderer.render(tree, specs[0], None)
    await renderer.render(tree, specs[1], None)
    assert renderer.peek(tree, specs[0], None) is not None
    await renderer.render(tree, specs[2], None)
    assert [renderer.peek(tree, spec, None) is not None for spec in specs] == [True, False, True]


async def test_a_revert_is_remembered(renderer: Renderer) -> None:
    """Going back to what was built before builds nothing."""
    old, new = tree_of(FILES), tree_of({**FILES, "app/a.yaml": config_map("a", x="new")})
    await renderer.render(old, APP, VALUES)
    await renderer.render(new, APP, VALUES)
    assert (await renderer.render(old, APP, VALUES)).remembered


async def test_peek_is_cheap(renderer: Renderer) -> None:
    """To find that nothing changed in a tree of 5,000 files takes less than a millisecond."""
    files = {f"apps/{number}/a.yaml": config_map(f"a{number}") for number in range(5000)}
    await renderer.render(tree_of({**FILES, **files}), APP, VALUES)
    trees = [tree_of({**FILES, **files, "new": str(number)}) for number in range(3)]
    started = time.perf_counter()
    assert all(renderer.peek(tree, APP, VALUES) for tree in trees)
    assert (time.perf_counter() - started) / len(trees) < 0.001


async def test_no_more_builds_run_at_once_than_there_are_workers(tmp_path: Path) -> None:
    """Builds beyond the number of workers wait for their turn."""
    renderer = make(tmp_path, workers=1)
    tree = tree_of({"app/a.yaml": config_map("a")})
    specs = [BuildSpec(path="app", name_prefix=str(number)) for number in range(4)]
    tasks = [asyncio.ensure_future(renderer.render(tree, spec, None)) for spec in specs]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, len(children()))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    assert most == 1
