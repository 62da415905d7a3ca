"""Which addresses a user's URL may lead us to (S36).

Role in the flow: asked before every connection for a URL that users write. Names
are resolved here and the addresses found are pinned by the caller, so that a name
cannot point elsewhere a moment later. Must not know protocols.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gitwright.core.errors import Transient

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Instance metadata services that are not link-local: Alibaba, Azure, Oracle, AWS on IPv6, Google on IPv6.
_METADATA = tuple(
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)


class EgressRefused(Transient):
    """Policy forbids the address; tried again in case the name changes or the setting does."""

    reason = "GitOperationFailed"


@dataclass(frozen=True, slots=True)
class Egress:
    """The policy.

    Link-local and metadata addresses are always refused, and so are the engine's own ports.

    Args:
        allow_loopback: allow 127.0.0.0/8 and ::1 (other than our own ports).
        own_ports: ports that the engine itself listens on.
        denied: further networks that are refused.
        resolve: gives the addresses of a name; None asks the system.
    """

    allow_loopback: bool = False
    own_ports: frozenset[int] = frozenset()
    denied: tuple[_Network, ...] = ()
    resolve: Callable[[str, int], Awaitable[Sequence[str]]] | None = None

    def refuses(self, address: _Address, port: int) -> str:
        """Say why an address is refused, or give an empty text."""
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            return self.refuses(mapped, port)
        if address.is_link_local:
            return "it is link-local"
        if address in _METADATA:
            return "it belongs to a metadata service"
        if address.is_unspecified or address.is_multicast:
            return "it is not the address of a host"
        if address.is_loopback:
            if port in self.own_ports:
                return "it is the engine's own"
            if not self.allow_loopback:
                return "it is a loopback address, and the setting that allows those is off"
        if any(address in network for network in self.denied if network.version == address.version):
            return "it is in a network that a setting denies"
        return ""

    async def check(self, host: str, port: int) -> tuple[str, ...]:
        """Resolve a host and check every address it has.

        Args:
            host: name or address.
            port: where the connection will go.

        Returns:
            The addresses, all allowed.

        Raises:
            EgressRefused: one of them is refused.
            OSError: the name cannot be resolved.
        """
        literal = as_address(host)
        if literal is not None:
            addresses = [literal]
        else:
            found = await (self.resolve or _ask_system)(host, port)
            addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in dict.fromkeys(found)]
        for address in addresses:
            why = self.refuses(address, port)
            if why:
                raise EgressRefused(f"the address {address} of {host} is refused: {why}")
        return tuple(str(address) for address in addresses)


def as_address(host: str) -> _Address | None:
    """Read a host as an address in any spelling the system's own functions accept, or give None."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        # 2130706433, 0x7f.1 and 127.1 are addresses too.
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host.isascii() else None
    except OSError:
        return None


async def _ask_system(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
