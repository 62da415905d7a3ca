"""Which servers are reached without the proxy of the environment.

Role in the flow: one question that `config` asks. Pure. Source: the NO_PROXY rules
of Go's golang.org/x/net/http/httpproxy, which kubectl and Flux follow.
"""

from __future__ import annotations

import ipaddress


def excluded(host: str, port: int, no_proxy: str) -> bool:
    """Tell whether a host is reached directly.

    Loopback always is. `no_proxy` lists, separated by commas: `*`, addresses,
    networks (`10.0.0.0/8`), `example.com` (it and all below), `.example.com` or
    `*.example.com` (all below); each may end in `:PORT`.

    Args:
        host: name or address, without brackets.
        port: the port.
        no_proxy: value of NO_PROXY.
    """
    host = host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(rule.strip().lower(), host, address, port) for rule in no_proxy.split(","))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(rule: str, host: str, address: _Address | None, port: int) -> bool:
    if not rule:
        return False
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(rule)
    if wanted is not None and wanted != port:
        return False
    fixed = _address(name)
    if fixed is not None:
        return address == fixed
    if name.startswith("*."):
        name = name[1:]
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


def _split_port(rule: str) -> tuple[str, int | None]:
    if rule.startswith("["):
        name, _, rest = rule[1:].partition("]")
        return name, int(rest[1:]) if rest[1:].isdigit() else None
    name, colon, tail = rule.rpartition(":")
    if colon and tail.isdigit() and ":" not in name:
        return name, int(tail)
    return rule, None


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
