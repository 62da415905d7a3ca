"""What Flux's round trip through Go's types makes of an object before it applies it.

Role in the flow: between render and plan. Flux decodes each object of a built-in kind
into Kubernetes' Go struct and encodes it again, which drops unknown fields, writes out
fields that Go never omits and puts quantities into canonical form. The fields a manager
owns on the server, and so hand-overs from Flux to gitwright and back, depend on it.
Pure; knows no cluster.

Source: fluxcd/pkg ssa/normalize and ssa/utils; k8s.io/apimachinery pkg/runtime converter.
The shapes of the structs are data, recorded from client-go by tools/gotypes.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import importlib.resources
import json
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from gitwright.core.objects import JSON
from gitwright.formats import quantity

_Convert = Callable[[Any], Any]
_Zero = Callable[[], Any]


class _Mismatch(Exception):
    """The object does not fit its Go type; Flux then leaves it to the API server to say so."""


class _Codec(NamedTuple):
    """How one Go type is read and written.

    `convert` takes a JSON value other than null; `zero` gives what Go writes for the
    type's zero value; `droppable` says that Go calls some values of the type empty.
    """

    convert: _Convert
    zero: _Zero
    droppable: bool


def normalise(obj: JSON) -> JSON:
    """Give the object as Flux would send it to the API server.

    The result never shares its top level or `metadata` with `obj`, which is not changed.
    An object that is of no built-in kind, or does not fit its kind, keeps all its fields:
    the API server names the error. Roles and ClusterRoles are left alone, as Flux does,
    because an absent and an empty list of rules differ there.

    Args:
        obj: one rendered object, as JSON.

    Raises:
        RecursionError: the object nests deeper than any built-in type does.
    """
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    if api_version == "rbac.authorization.k8s.io/v1" and kind in ("Role", "ClusterRole"):
        return _copied(obj)
    result = _typed(obj, f"{api_version} {kind}") or _copied(obj)
    metadata = result.setdefault("metadata", {})
    if isinstance(metadata, dict):
        metadata["creationTimestamp"] = None
    if str(kind).lower() == "customresourcedefinition" and str(api_version).startswith(
        "apiextensions.k8s.io/"
    ):
        return _without_bad_ca_bundle(result)
    result.pop("status", None)
    return result


def _typed(obj: JSON, name: str) -> JSON | None:
    convert = _root(name)
    if convert is None:
        return None
    try:
        result: JSON = convert(obj)
    except _Mismatch:
        return None
    fix = _FIXES.get(name)
    if fix is not None:
        fix(result)
    return result


def _copied(obj: JSON) -> JSON:
    result = dict(obj)
    metadata = result.get("metadata")
    if isinstance(metadata, dict):
        result["metadata"] = {
            key: dict(value) if isinstance(value, dict) else value for key, value in metadata.items()
        }
    return result


# --- what Flux changes besides the round trip


def _ports(spec: JSON) -> None:
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")


def _pod_ports(spec: JSON) -> None:
    # Init containers are not touched: Flux works around a bug that shows in `containers` alone.
    for container in spec["containers"] or ():
        _ports(container)


def _fix_pod(obj: JSON) -> None:
    _pod_ports(obj["spec"])


def _fix_workload(obj: JSON) -> None:
    _pod_ports(obj["spec"]["template"]["spec"])


def _fix_cron_job(obj: JSON) -> None:
    _pod_ports(obj["spec"]["jobTemplate"]["spec"]["template"]["spec"])


def _fix_service(obj: JSON) -> None:
    _ports(obj["spec"])


def _fix_secret(obj: JSON) -> None:
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        for key, text in plain.items():
            data[key] = base64.b64encode(text.encode()).decode()


_FIXES: dict[str, Callable[[JSON], None]] = {
    "v1 Pod": _fix_pod,
    "v1 Service": _fix_service,
    "v1 Secret": _fix_secret,
    "apps/v1 Deployment": _fix_workload,
    "apps/v1 StatefulSet": _fix_workload,
    "apps/v1 DaemonSet": _fix_workload,
    "apps/v1 ReplicaSet": _fix_workload,
    "batch/v1 Job": _fix_workload,
    "batch/v1 CronJob": _fix_cron_job,
}


def _without_bad_ca_bundle(obj: JSON) -> JSON:
    """Leave out a conversion webhook's CA bundle that Kubernetes 1.31 and later refuse."""
    path = ("spec", "conversion", "webhook", "clientConfig")
    found: Any = obj
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    bundle = found.get("caBundle") if isinstance(found, dict) else None
    if not isinstance(bundle, str) or not bundle or _is_ca_bundle(bundle):
        return obj
    parent = obj
    for name in path:
        parent[name] = parent = dict(parent[name])
    del parent["caBundle"]
    return obj


_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


def _is_ca_bundle(bundle: str) -> bool:
    try:
        text = _from_base64(bundle).decode("latin-1")
    except _Mismatch:
        return False
    return any(_is_certificate(pem) for pem in _CERTIFICATE.findall(text))


def _is_certificate(pem: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ValueError, ssl.SSLError):
        return False
    return True


# --- Go's types, compiled from the table


@cache
def _table() -> JSON:
    packed = importlib.resources.files(__package__).joinpath("gotypes.json.gz").read_bytes()
    table: JSON = json.loads(gzip.decompress(packed))
    return table


@cache
def _root(name: str) -> _Convert | None:
    number = _table()["kinds"].get(name)
    if number is None:
        return None
    # The status is read, for it must fit, but never sent: its zero value need not be made.
    return _struct_of(_table()["structs"][number], skip_zero="status").convert


@cache
def _codec(ref: str) -> _Codec:
    """Compile a type as the table writes it, such as `string`, `#12`, `[#3` or `{quantity`."""
    if ref in _SCALARS:
        return _SCALARS[ref]
    if ref[0] == "#":
        return _Codec(_late(ref), _late_zero(ref), droppable=False)
    element = _codec(ref[1:])
    if ref[0] == "*":
        return _Codec(element.convert, _none, droppable=False)
    if ref[0] == "[":
        return _Codec(_slice_of(element), _none, droppable=True)
    return _Codec(_map_of(element), _none, droppable=True)


@cache
def _struct(ref: str) -> _Codec:
    return _struct_of(_table()["structs"][int(ref[1:])])


def _late(ref: str) -> _Convert:
    # Structs refer to themselves, so each is compiled when first met and not before.
    def convert(value: Any) -> Any:
        return _struct(ref).convert(value)

    return convert


def _late_zero(ref: str) -> _Zero:
    def zero() -> Any:
        return _struct(ref).zero()

    return zero


def _struct_of(rows: list[tuple[str, str, str]], skip_zero: str = "") -> _Codec:
    fields: dict[str, tuple[_Convert, bool]] = {}
    always: list[tuple[str, _Zero]] = []
    for name, ref, flags in rows:
        codec = _codec(ref)
        omits_zero = "z" in flags
        fields[name] = (codec.convert, not omits_zero and not ("e" in flags and codec.droppable))
        # Go calls no struct empty, so `omitempty` says nothing there.
        written = "e" not in flags or (not codec.droppable and ref[0] != "*")
        if written and not omits_zero and name != skip_zero:
            always.append((name, codec.zero))
    find = fields.get

    def convert(value: Any) -> Any:
        if value.__class__ is not dict:
            raise _Mismatch
        out = {}
        for name, item in value.items():
            if item is not None:
                field = find(name)
                if field is not None:
                    converted = field[0](item)
                    if converted or field[1]:
                        out[name] = converted
        for name, make in always:
            if name not in out:
                out[name] = make()
        return out

    def zero() -> Any:
        return {name: make() for name, make in always}

    return _Codec(convert, zero, droppable=False)


def _slice_of(element: _Codec) -> _Convert:
    item_of, zero = element.convert, element.zero

    def convert(value: Any) -> Any:
        if value.__class__ is not list:
            raise _Mismatch
        return [zero() if item is None else item_of(item) for item in value]

    return convert


def _map_of(element: _Codec) -> _Convert:
    item_of, zero = element.convert, element.zero

    def convert(value: Any) -> Any:
        if value.__class__ is not dict:
            raise _Mismatch
        return {key: zero() if item is None else item_of(item) for key, item in value.items()}

    return convert


def _none() -> None:
    return None


def _string(value: Any) -> Any:
    if value.__class__ is not str:
        raise _Mismatch
    return value


def _boolean(value: Any) -> Any:
    if value.__class__ is not bool:
        raise _Mismatch
    return value


def _integer(bits: int) -> _Convert:
    half, size = 1 << (bits - 1), 1 << bits

    def convert(value: Any) -> Any:
        if value.__class__ is int:
            if not -(1 << 63) <= value < 1 << 63:
                raise _Mismatch
        elif value.__class__ is float and value.is_integer() and abs(value) < 2**63:
            value = int(value)
        else:
            raise _Mismatch
        # Go's conversion wraps around.
        return value if -half <= value < half else (value + half) % size - half

    return convert


def _from_base64(text: str) -> bytes:
    try:
        # Go skips line ends inside and takes nothing else that is not of the alphabet.
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Mismatch from error


def _bytes(value: Any) -> Any:
    if value.__class__ is list:
        # Go takes bytes as a list of numbers too, and cuts each to eight bits.
        numbers = [0 if item is None else _integer(64)(item) & 255 for item in value]
        return base64.b64encode(bytes(numbers)).decode()
    return base64.b64encode(_from_base64(_string(value))).decode() if value else ""


def _quantity(value: Any) -> Any:
    if value.__class__ is int or value.__class__ is float:
        value = _go_number(value)
    try:
        return quantity.canonical(_string(value))
    except ValueError as error:
        raise _Mismatch from error


def _go_number(value: int | float) -> str:
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" not in text:
        return text
    if 1e-6 <= abs(value) < 1e21:
        return f"{value:.20f}".rstrip("0")
    return re.sub(r"e-0(\d)$", r"e-\1", text)


def _int_or_string(value: Any) -> Any:
    if value.__class__ is str:
        return value
    if value.__class__ is float and value.is_integer():
        value = int(value)
    if value.__class__ is not int or not -(1 << 31) <= value < 1 << 31:
        raise _Mismatch
    return value


_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d{1,2})(:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)


def _moment(value: Any) -> tuple[datetime, str]:
    match = _TIME.fullmatch(_string(value))
    if match is None:
        raise _Mismatch
    day, hour, rest, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{hour.zfill(2)}{rest}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _Mismatch from error
    return moment, fraction or ""


def _time(value: Any) -> Any:
    moment, fraction = _moment(value)
    if moment == _ZERO_TIME and not fraction.strip("0"):
        return None
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%SZ}"


def _micro_time(value: Any) -> Any:
    moment, fraction = _moment(value)
    if len(fraction) != 6:
        raise _Mismatch
    if moment == _ZERO_TIME and not fraction.strip("0"):
        return None
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}.{fraction}Z"


def _raw(value: Any) -> Any:
    return value


_SCALARS: dict[str, _Codec] = {
    "string": _Codec(_string, str, droppable=True),
    "bool": _Codec(_boolean, bool, droppable=True),
    "int32": _Codec(_integer(32), int, droppable=True),
    "int64": _Codec(_integer(64), int, droppable=True),
    "bytes": _Codec(_bytes, _none, droppable=True),
    "quantity": _Codec(_quantity, lambda: "0", droppable=False),
    "intorstring": _Codec(_int_or_string, int, droppable=False),
    "time": _Codec(_time, _none, droppable=False),
    "microtime": _Codec(_micro_time, _none, droppable=False),
    "raw": _Codec(_raw, _none, droppable=False),
}
