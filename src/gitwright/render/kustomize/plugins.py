"""Built-in generators and transformers that are given as objects, in files or in place.

Role in the flow: `accumulate` hands over the configurations it found in the fields
`generators`, `transformers` and `validators`. Everything that would run a program or a
function is refused, as Flux has it. Source: kustomize api/internal/plugins/loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gitwright.core.objects import JSON
from gitwright.render.kustomize import generators as making
from gitwright.render.kustomize import load, origins, patches, replacements, transform_meta, typed, valueadd
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.fieldspecs import FIELD_SPEC, FieldSpec, spec
from gitwright.render.kustomize.model import Context, PatchEntry, Resource, ResourceList
from gitwright.render.kustomize.origins import Origin
from gitwright.render.kustomize.typed import BOOL, STRING, STRING_MAP, STRINGS, List, Struct, Type

Step = Callable[[ResourceList], None]
_GENERATORS = frozenset(
    ("ConfigMapGenerator", "SecretGenerator", "IAMPolicyGenerator", "HelmChartInflationGenerator")
)
_SPECS = List(FIELD_SPEC)
_NAMED = Struct("Named", {"name": STRING, "namespace": STRING, "projectId": STRING})
_IAM = Struct("IAMPolicyGenerator", {"cloud": STRING, "kubernetesService": _NAMED, "serviceAccount": _NAMED})
_ALL: dict[str, Type] = {
    "metadata": load.METADATA,
    "fieldSpecs": _SPECS,
    "annotations": STRING_MAP,
    "labels": STRING_MAP,
    "imageTag": load.IMAGE,
    "replica": load.REPLICA,
    "prefix": STRING,
    "suffix": STRING,
    "unsetOnly": BOOL,
    "setRoleBindingSubjects": STRING,
    "target": load.SELECTOR,
    "path": STRING,
    "jsonOp": STRING,
    "patch": STRING,
    "options": load.PATCH.fields["options"],
    "paths": STRINGS,
    "patches": STRING,
    "replacements": List(load.REPLACEMENT),
    "value": STRING,
    "targets": List(valueadd.TARGET),
    "targetFilePath": STRING,
}
# kind -> the fields that its configuration knows; others are passed by.
_TRANSFORMERS: Mapping[str, tuple[str, ...]] = {
    "AnnotationsTransformer": ("annotations", "fieldSpecs"),
    "HashTransformer": (),
    "ImageTagTransformer": ("imageTag", "fieldSpecs"),
    "LabelTransformer": ("labels", "fieldSpecs"),
    "NamespaceTransformer": ("metadata", "fieldSpecs", "unsetOnly", "setRoleBindingSubjects"),
    "PatchJson6902Transformer": ("target", "path", "jsonOp"),
    "PatchStrategicMergeTransformer": ("paths", "patches"),
    "PatchTransformer": ("path", "patch", "target", "options"),
    "PrefixSuffixTransformer": ("prefix", "suffix", "fieldSpecs"),
    "PrefixTransformer": ("prefix", "fieldSpecs"),
    "SuffixTransformer": ("suffix", "fieldSpecs"),
    "ReplacementTransformer": ("replacements",),
    "ReplicaCountTransformer": ("replica", "fieldSpecs"),
    "ValueAddTransformer": ("value", "targets", "targetFilePath"),
}


def inline(text: str) -> list[JSON] | None:
    """Give the objects of a list item that is YAML in place, None when it is a path."""
    try:
        return load.objects(text.encode("utf-8", "surrogatepass"), "")
    except KustomizeError:
        return None


def helm(place: str) -> KustomizeError:
    """Give the error for helm charts in a kustomization."""
    return KustomizeError(
        "trouble configuring builtin HelmChartInflationGenerator: must specify --enable-helm",
        place=place,
        detail="field 'helmCharts'",
        hint="use a HelmRelease instead: kustomizations do not run helm",
    )


def _refuse_foreign(resource: Resource) -> None:
    gvk = resource.gvk
    if gvk.group or gvk.version != "builtin":
        raise KustomizeError(
            f"external plugins disabled; unable to load external plugin '{gvk.kind}'",
            place=resource.source,
            detail="expected apiVersion: builtin",
            hint="functions and programs are not run while building",
        )
    if gvk.kind not in _GENERATORS and gvk.kind not in _TRANSFORMERS:
        raise KustomizeError(f"unable to load builtin {gvk}", place=resource.source)


def generators(found: Sequence[Resource], context: Context) -> Iterator[tuple[Resource, Origin | None]]:
    """Make what the configured generators make.

    Raises:
        KustomizeError: one is no built-in generator, or its configuration is wrong.
    """
    for resource in found:
        _refuse_foreign(resource)
        kind = resource.kind
        if kind not in _GENERATORS:
            raise KustomizeError(f"plugin {resource.id} not a generator", place=resource.source)
        if kind == "HelmChartInflationGenerator":
            raise helm(resource.source)
        yield _generated(resource, context), origins.of_plugin(resource)


def _generated(resource: Resource, context: Context) -> Resource:
    if resource.kind == "IAMPolicyGenerator":
        return _service_account(resource)
    kind = load.SECRET if resource.kind == "SecretGenerator" else load.CONFIG_MAP
    entry = _lenient(resource, kind)
    entry["name"] = entry.get("name") or resource.name
    entry["namespace"] = entry.get("namespace") or resource.namespace
    return making.generate(
        "Secret" if resource.kind == "SecretGenerator" else "ConfigMap",
        entry,
        None,
        context.root,
        context.scopes,
        resource.source,
    )


def _service_account(resource: Resource) -> Resource:
    entry = _lenient(resource, _IAM)
    if entry.get("cloud") != "gke":
        raise KustomizeError(
            f"cloud provider {entry.get('cloud', '')} not supported yet", place=resource.source
        )
    account, service = entry.get("serviceAccount") or {}, entry.get("kubernetesService") or {}
    email = f"{account.get('name', '')}@{account.get('projectId', '')}.iam.gserviceaccount.com"
    metadata: JSON = {
        "annotations": {"iam.gke.io/gcp-service-account": email},
        "name": service.get("name", ""),
    }
    if service.get("namespace"):
        metadata["namespace"] = service["namespace"]
    obj = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    return Resource(obj, resource.scopes, resource.source)


def _lenient(resource: Resource, kind: Struct) -> dict[str, Any]:
    return typed.decode(resource.obj, kind, resource.source, strict=False, texts=True)


def transformers(found: Sequence[Resource], context: Context) -> list[tuple[Origin | None, Step]]:
    """Give the configured transformers, ready to run.

    Raises:
        KustomizeError: one is no built-in transformer, or its configuration is wrong.
    """
    steps: list[tuple[Origin | None, Step]] = []
    for resource in found:
        _refuse_foreign(resource)
        if resource.kind not in _TRANSFORMERS:
            raise KustomizeError(f"plugin {resource.id} not a transformer", place=resource.source)
        struct = Struct(resource.kind, {name: _ALL[name] for name in _TRANSFORMERS[resource.kind]})
        config = _lenient(resource, struct)
        specs = [spec(entry) for entry in config.get("fieldSpecs") or ()]
        maker = _patching if "Patch" in resource.kind else _changing
        steps.append((origins.of_plugin(resource), maker(resource, config, specs, context)))
    return steps


def _patching(
    resource: Resource, config: Mapping[str, Any], specs: Sequence[FieldSpec], context: Context
) -> Step:
    path, patch = config.get("path") or "", config.get("patch") or ""
    where = resource.source
    if resource.kind == "PatchTransformer":
        found = [PatchEntry("patch", path, patch, config.get("target"), config.get("options") or {}, where)]
    elif resource.kind == "PatchJson6902Transformer":
        found = [PatchEntry("json6902", path, config.get("jsonOp") or "", config.get("target"), {}, where)]
    else:
        texts = [*(config.get("paths") or ()), *([config["patches"]] if config.get("patches") else ())]
        if not texts:
            raise KustomizeError("empty file path and empty patch content", place=where)
        found = [PatchEntry("strategic", path=text, where=where) for text in texts]
    return lambda resources: patches.apply_all(resources, found, context)


def _changing(
    resource: Resource, config: Mapping[str, Any], specs: Sequence[FieldSpec], context: Context
) -> Step:
    kind, place = resource.kind, resource.source
    if kind in ("LabelTransformer", "AnnotationsTransformer"):
        entries = config.get("labels" if kind == "LabelTransformer" else "annotations") or {}
        return lambda found: transform_meta.set_entries(found, entries, specs)
    if kind == "ImageTagTransformer":
        images = [config.get("imageTag") or {}]
        return lambda found: transform_meta.set_images(found, images, specs, place)
    if kind == "ReplicaCountTransformer":
        replica = config.get("replica") or {}
        name, count = replica.get("name") or "", replica.get("count") or 0
        return lambda found: transform_meta.set_replicas(found, name, count, specs, place)
    if kind == "ReplacementTransformer":
        entered = replacements.entries(config.get("replacements") or (), context.root, place)
        return lambda found: replacements.apply(found, entered)
    if kind == "NamespaceTransformer":
        return _namespacing(config, specs, place)
    if kind == "HashTransformer":
        return making.add_hashes
    if kind == "ValueAddTransformer":
        return valueadd.prepare(config, context.root, place)
    if config.get("fieldSpecs") is None:
        raise KustomizeError("fieldSpecs is not expected to be nil", place=place)
    return _renaming(config, specs)


def _renaming(config: Mapping[str, Any], specs: Sequence[FieldSpec]) -> Step:
    prefix, suffix = config.get("prefix"), config.get("suffix")

    def step(found: ResourceList) -> None:
        if prefix:
            transform_meta.rename(found, prefix, specs, "prefix")
        if suffix:
            transform_meta.rename(found, suffix, specs, "suffix")

    return step


def _namespacing(config: Mapping[str, Any], specs: Sequence[FieldSpec], place: str) -> Step:
    namespace = (config.get("metadata") or {}).get("namespace") or ""
    modes: dict[str, transform_meta.SubjectMode] = {
        "": "defaultOnly",
        "defaultOnly": "defaultOnly",
        "allServiceAccounts": "allServiceAccounts",
        "none": "none",
    }
    given = config.get("setRoleBindingSubjects") or ""
    if given not in modes:
        raise KustomizeError(
            f'invalid value "{given}" for setRoleBindingSubjects: '
            'must be one of "defaultOnly", "none" or "allServiceAccounts"',
            place=place,
        )
    only = bool(config.get("unsetOnly"))

    def step(found: ResourceList) -> None:
        if namespace:
            transform_meta.set_namespace(found, namespace, specs, unset_only=only, subjects=modes[given])

    return step
