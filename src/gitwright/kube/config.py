"""How to reach a cluster: kubeconfig files, in-cluster files, and what they say.

Role in the flow: turns files and environment into one frozen `ConnectionConfig`,
which `http` and `credentials` act upon. It opens no connection and starts nothing.
Source: Kubernetes documentation "Organizing cluster access using kubeconfig files";
k8s.io/client-go tools/clientcmd; spec/security.md S8, S25.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gitwright.core.errors import Stalled
from gitwright.core.objects import JSON
from gitwright.formats.yaml import YamlError, load_documents
from gitwright.kube.proxy import excluded

_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# A kubeconfig is small; what is larger is not one.
_LARGEST = 4 * 1024 * 1024


class ConfigError(Stalled):
    """A kubeconfig cannot be used as it is; `place` names the file and the field."""

    reason = "KubeConfigInvalid"


@dataclass(frozen=True, slots=True)
class Impersonation:
    """Whom to act as, from a kubeconfig's `as`, `as-uid`, `as-groups` and `as-user-extra`."""

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A program that gives credentials.

    Args:
        command: name or path; a relative path is from `folder`.
        args: its arguments.
        env: variables added to the environment; may be secret.
        api_version: `client.authentication.k8s.io/v1` or `/v1beta1`.
        interactive_mode: `Never`, `IfAvailable` or `Always`.
        install_hint: what the kubeconfig says on how to get it.
        cluster: what `provideClusterInfo` hands over, or None.
        folder: folder of the kubeconfig.
    """

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api_version: str = "client.authentication.k8s.io/v1"
    interactive_mode: str = "IfAvailable"
    install_hint: str = ""
    cluster: JSON | None = field(default=None, repr=False)
    folder: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """One server and one identity. Secrets do not show in its `repr`.

    Args:
        server: URL of the API server, without a slash at the end.
        ca: PEM certificates to trust; empty means the system's.
        insecure: do not verify the server; only when the kubeconfig says so.
        tls_server_name: name to expect in the server's certificate, or empty.
        client_certificate: PEM chain, or empty.
        client_key: PEM key, or empty.
        token: bearer token, or empty.
        token_file: file with a bearer token, read again as it changes, or empty.
        username: for basic authentication, or empty.
        password: the same.
        exec: a credential plugin, or None.
        proxy_url: URL of the proxy for this server, or empty.
        namespace: default namespace of the context.
        impersonate: whom to act as, or None.
        environment: what a credential plugin inherits.
        interactive: a person is at the terminal, so plugins may ask.
    """

    server: str
    ca: bytes = b""
    insecure: bool = False
    tls_server_name: str = ""
    client_certificate: bytes = b""
    client_key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    exec: ExecPlugin | None = None
    proxy_url: str = field(default="", repr=False)
    namespace: str = "default"
    impersonate: Impersonation | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    interactive: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    """A named entry of a kubeconfig and the file it came from."""

    body: JSON
    file: str

    @property
    def folder(self) -> Path:
        return Path(self.file).parent


@dataclass(frozen=True, slots=True)
class _Merged:
    clusters: dict[str, _Entry]
    users: dict[str, _Entry]
    contexts: dict[str, _Entry]
    current: str
    files: tuple[str, ...]


def load(kubeconfig: str | None, context: str | None, environment: Mapping[str, str]) -> ConnectionConfig:
    """Find out how to reach the cluster.

    The order is kubectl's: the named file, else the files of `KUBECONFIG`, else
    `~/.kube/config`, else the service account of the pod we run in.

    Args:
        kubeconfig: path of one file, or None.
        context: name of a context, or None for the current one.
        environment: `KUBECONFIG`, `HOME`, `KUBERNETES_SERVICE_HOST`, proxies; also
            what credential plugins inherit.

    Raises:
        ConfigError: nothing was found, or what was found cannot be used.
    """
    if kubeconfig:
        merged = _merge([kubeconfig], required=True)
    elif environment.get("KUBECONFIG"):
        merged = _merge([name for name in environment["KUBECONFIG"].split(os.pathsep) if name])
    else:
        home = environment.get("HOME")
        merged = _merge([str(Path(home) / ".kube" / "config")] if home else [])
    if merged.files or context:
        config = _resolve(merged, context or merged.current)
    else:
        config = in_cluster(environment)
    if not config.proxy_url:
        config = replace(config, proxy_url=proxy_of(config.server, environment))
    return replace(config, environment=dict(environment))


def load_untrusted(
    text: str | bytes, *, allow_exec: bool = False, allow_insecure: bool = False, name: str = "kubeconfig"
) -> ConnectionConfig:
    """Read the kubeconfig of a tenant, such as the Secret of `spec.kubeConfig`.

    It may name nothing outside itself: no program, no file, no auth provider, and no
    skipping of the server's identity.

    Args:
        text: the YAML.
        allow_exec: accept credential plugins (`--insecure-kubeconfig-exec`).
        allow_insecure: accept insecure-skip-tls-verify (`--insecure-kubeconfig-tls`).
        name: what to call it in errors.

    Raises:
        ConfigError: it asks for one of these, or cannot be used.

    Source: spec/security.md S8, S25.
    """
    merged = _collect([(name, _parse(text, name))])
    chosen = _entry(merged.contexts, merged.current, "context", merged.files).body
    user = _entry(merged.users, _text(chosen, "user", name), "user", merged.files).body
    cluster = _entry(merged.clusters, _text(chosen, "cluster", name), "cluster", merged.files).body
    for body, where in ((user, "user"), (cluster, "cluster")):
        for forbidden in ("client-certificate", "client-key", "tokenFile", "certificate-authority"):
            if body.get(forbidden):
                raise ConfigError(
                    f"kubeconfig field {forbidden} names a file, which is not allowed here",
                    place=f"{name}: {where}.{forbidden}",
                    hint=f"put the content into {forbidden}-data"
                    if forbidden != "tokenFile"
                    else "use token",
                )
    if user.get("exec") and not allow_exec:
        raise ConfigError(
            "kubeconfig credential plugins (exec) are not allowed here", place=f"{name}: user.exec"
        )
    if cluster.get("insecure-skip-tls-verify") and not allow_insecure:
        raise ConfigError(
            "kubeconfig option insecure-skip-tls-verify is not allowed here",
            place=f"{name}: cluster.insecure-skip-tls-verify",
            hint="give the server's CA in certificate-authority-data",
        )
    return _resolve(merged, merged.current)


def _merge(names: list[str], *, required: bool = False) -> _Merged:
    documents: list[tuple[str, JSON]] = []
    for name in names:
        try:
            with open(name, "rb") as file:
                text = file.read(_LARGEST + 1)
        except FileNotFoundError:
            if required:
                raise ConfigError(f"stat {name}: no such file or directory", place=name) from None
            continue
        except OSError as error:
            raise ConfigError(f"cannot read kubeconfig: {error.strerror}", place=name) from error
        documents.append((name, _parse(text, name)))
    return _collect(documents)


def _parse(text: str | bytes, name: str) -> JSON:
    if len(text) > _LARGEST:
        raise ConfigError("the file is too large to be a kubeconfig", place=name)
    try:
        documents = load_documents(text, name)
    except YamlError as error:
        raise ConfigError("the file is not a kubeconfig", place=error.place or name) from None
    if not documents:
        return {}
    if not isinstance(documents[0], dict):
        raise ConfigError("the file is not a kubeconfig", place=name)
    return documents[0]


def _collect(documents: list[tuple[str, JSON]]) -> _Merged:
    """Merge kubeconfigs; the first to name a thing wins, as in kubectl."""
    found: dict[str, dict[str, _Entry]] = {"clusters": {}, "users": {}, "contexts": {}}
    current = ""
    for name, document in documents:
        current = current or str(document.get("current-context") or "")
        for kind, entries in found.items():
            listed = document.get(kind) or []
            if not isinstance(listed, list):
                raise ConfigError(f"kubeconfig field {kind} is not a list", place=name)
            for item in listed:
                body = item.get(kind[:-1]) if isinstance(item, dict) else None
                if not isinstance(item, dict) or not isinstance(body or {}, dict):
                    raise ConfigError(f"kubeconfig field {kind} has an entry that is not a map", place=name)
                entries.setdefault(str(item.get("name") or ""), _Entry(body or {}, name))
    files = tuple(name for name, _ in documents)
    return _Merged(found["clusters"], found["users"], found["contexts"], current, files)


def _entry(entries: Mapping[str, _Entry], name: str, kind: str, files: tuple[str, ...]) -> _Entry:
    if not name:
        raise ConfigError(
            f"the kubeconfig names no {kind}",
            place=", ".join(files),
            hint="set current-context, or name a context",
        )
    if name not in entries:
        known = ", ".join(sorted(entries)[:10])
        raise ConfigError(
            f'{kind} "{name}" does not exist',
            place=", ".join(files),
            hint=f"known are: {known}" if known else "",
        )
    return entries[name]


def _resolve(merged: _Merged, context: str) -> ConnectionConfig:
    try:
        return _build(merged, context)
    except (TypeError, KeyError, AttributeError, ValueError):
        # The text of these errors could quote a secret.
        raise ConfigError(
            "the kubeconfig has a field of the wrong type", place=", ".join(merged.files)
        ) from None


def _build(merged: _Merged, context: str) -> ConnectionConfig:
    chosen = _entry(merged.contexts, context, "context", merged.files)
    cluster = _entry(merged.clusters, _text(chosen.body, "cluster", chosen.file), "cluster", merged.files)
    name = _text(chosen.body, "user", chosen.file)
    user = _entry(merged.users, name, "user", merged.files) if name else _Entry({}, chosen.file)
    server = _text(cluster.body, "server", cluster.file).rstrip("/")
    scheme = urlsplit(server).scheme
    if scheme not in ("http", "https") or not urlsplit(server).hostname:
        raise ConfigError(
            "kubeconfig field server is not a URL", place=f"{cluster.file}: clusters.cluster.server"
        )
    if user.body.get("auth-provider"):
        raise ConfigError(
            "kubeconfig auth-provider is not supported; Kubernetes removed it",
            place=f"{user.file}: users.user.auth-provider",
            hint="use a credential plugin (exec) instead",
        )
    insecure = _flag(cluster, "insecure-skip-tls-verify")
    ca = _data_or_file(cluster, "certificate-authority")
    if insecure and ca:
        raise ConfigError(
            "specifying a root certificates file with the insecure flag is not allowed", place=cluster.file
        )
    token_file = _text(user.body, "tokenFile", user.file)
    config = ConnectionConfig(
        server=server,
        ca=ca,
        insecure=insecure,
        tls_server_name=_text(cluster.body, "tls-server-name", cluster.file),
        client_certificate=_data_or_file(user, "client-certificate"),
        client_key=_data_or_file(user, "client-key"),
        token=_text(user.body, "token", user.file),
        token_file=str(user.folder / token_file) if token_file else "",
        username=_text(user.body, "username", user.file),
        password=_text(user.body, "password", user.file),
        proxy_url=_proxy_url(cluster),
        namespace=_text(chosen.body, "namespace", chosen.file) or "default",
        impersonate=_impersonation(user),
    )
    if bool(config.client_certificate) != bool(config.client_key):
        raise ConfigError("a client certificate needs its key, and a key its certificate", place=user.file)
    plugin = _plugin(user, cluster, config) if user.body.get("exec") else None
    return replace(config, exec=plugin)


def _impersonation(user: _Entry) -> Impersonation | None:
    body, file = user.body, user.file
    name = _text(body, "as", file)
    groups = tuple(str(group) for group in body.get("as-groups") or ())
    uid = _text(body, "as-uid", file)
    extra = body.get("as-user-extra") or {}
    if not name:
        if groups or uid or extra:
            raise ConfigError("requesting uid, groups or user-extra without impersonating a user", place=file)
        return None
    if any(not group.strip() for group in groups):
        raise ConfigError("kubeconfig field as-groups has a blank entry", place=file)
    pairs = tuple((str(key), tuple(str(value) for value in values)) for key, values in extra.items())
    return Impersonation(name, groups, uid, pairs)


def _plugin(user: _Entry, cluster: _Entry, config: ConnectionConfig) -> ExecPlugin:
    body, file = user.body["exec"], user.file
    if not isinstance(body, dict):
        raise ConfigError("kubeconfig field exec is not a map", place=file)
    version = _text(body, "apiVersion", file)
    if version not in ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"):
        raise ConfigError(f'exec plugin: invalid apiVersion "{version}"', place=f"{file}: users.user.exec")
    mode = _text(body, "interactiveMode", file) or "IfAvailable"
    if mode not in ("Never", "IfAvailable", "Always"):
        raise ConfigError(f'exec plugin: invalid interactiveMode "{mode}"', place=f"{file}: users.user.exec")
    command = _text(body, "command", file)
    if not command:
        raise ConfigError("exec plugin: command is missing", place=f"{file}: users.user.exec")
    info: JSON | None = None
    if body.get("provideClusterInfo"):
        info = {
            "server": config.server,
            "tls-server-name": config.tls_server_name,
            "insecure-skip-tls-verify": config.insecure,
            "certificate-authority-data": base64.b64encode(config.ca).decode(),
            "proxy-url": config.proxy_url,
        }
        info = {key: value for key, value in info.items() if value}
        for extension in cluster.body.get("extensions") or ():
            if extension.get("name") == "client.authentication.k8s.io/exec":
                info["config"] = extension.get("extension")
    return ExecPlugin(
        command=command,
        args=tuple(str(argument) for argument in body.get("args") or ()),
        env=tuple((str(item["name"]), str(item.get("value") or "")) for item in body.get("env") or ()),
        api_version=version,
        interactive_mode=mode,
        install_hint=_text(body, "installHint", file),
        cluster=info,
        folder=str(user.folder),
    )


def _text(body: Mapping[str, Any], name: str, file: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(f"kubeconfig field {name} is not text", place=file)
    return value


def _flag(entry: _Entry, name: str) -> bool:
    value = entry.body.get(name)
    if value not in (None, True, False):
        raise ConfigError(f"kubeconfig field {name} is neither true nor false", place=entry.file)
    return value is True


def _data_or_file(entry: _Entry, name: str) -> bytes:
    data = _text(entry.body, f"{name}-data", entry.file)
    if data:
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"kubeconfig field {name}-data is not base64", place=entry.file) from None
    path = _text(entry.body, name, entry.file)
    if not path:
        return b""
    try:
        return (entry.folder / path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"unable to read {name} {path}: {error.strerror}", place=f"{entry.file}: {name}"
        ) from error


def _proxy_url(cluster: _Entry) -> str:
    url = _text(cluster.body, "proxy-url", cluster.file)
    if url:
        check_proxy(url, f"{cluster.file}: clusters.cluster.proxy-url")
    return url


def check_proxy(url: str, place: str) -> None:
    """Refuse a proxy that we cannot use; the URL itself stays out of the message, it may hold a password.

    Raises:
        ConfigError: it is no http or https URL.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            "the proxy is not an http or https URL", place=place, hint="SOCKS proxies are not supported"
        )


def proxy_of(server: str, environment: Mapping[str, str]) -> str:
    """Find the proxy for a server in the environment, by the rules that Go programs use.

    Args:
        server: URL of the server.
        environment: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, upper or lower case.
    """
    parts = urlsplit(server)
    names = ("HTTPS_PROXY", "https_proxy") if parts.scheme == "https" else ("HTTP_PROXY", "http_proxy")
    url = next((environment[name] for name in names if environment.get(name)), "")
    skip = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not url or excluded(parts.hostname or "", port, skip):
        return ""
    url = url if "://" in url else f"http://{url}"
    check_proxy(url, names[0])
    return url


def in_cluster(environment: Mapping[str, str], folder: Path = _IN_CLUSTER) -> ConnectionConfig:
    """Make the configuration of the pod that we run in.

    Args:
        environment: `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
        folder: where the service account is mounted.

    Raises:
        ConfigError: we do not run in a pod, or it has no service account.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT") or "443"
    if not host:
        raise ConfigError(
            "no configuration of a cluster was found",
            hint="set KUBECONFIG, name a kubeconfig, or run inside a cluster",
        )
    try:
        ca = (folder / "ca.crt").read_bytes()
        (folder / "token").read_bytes()
    except OSError as error:
        raise ConfigError("cannot read the pod's service account", place=str(error.filename)) from error
    try:
        namespace = (folder / "namespace").read_text().strip()
    except OSError:
        namespace = ""
    address = f"[{host}]" if ":" in host else host
    return ConnectionConfig(
        server=f"https://{address}:{port}",
        ca=ca,
        token_file=str(folder / "token"),
        namespace=namespace or "default",
    )
