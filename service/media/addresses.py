"""Which network addresses a request may make the worker dial."""

import ipaddress
import re
from dataclasses import dataclass

from yarl import URL

# RFC 4291: the only unicast addresses that are given out; every older way to carry an IPv4 address lies outside.
_GIVEN_OUT_V6 = ipaddress.ip_network("2000::/3")
# Beyond what every Python's `is_global` rules out: Azure's wire server, IANA's special-purpose blocks as a whole (a
# cloud puts its metadata into one), and tunnels that carry an IPv4 address.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
]
_HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")


def is_public_address(address: str) -> bool:
    """True for a unicast address that the whole internet routes, in its usual spelling and without a zone."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if "%" in address:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip not in _GIVEN_OUT_V6:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


@dataclass(frozen=True)
class TrustedHosts:
    """Hosts that may be dialled wherever they lie: names or addresses, each with a port or None for every port."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parse(cls, text: str) -> "TrustedHosts":
        """From `host[:port], …`. Raises ValueError that names the entry."""
        return cls(frozenset(_host_and_port(entry) for part in text.split(",") if (entry := part.strip())))

    @classmethod
    def of(cls, url: str) -> "TrustedHosts":
        """The host and port of a URL; none of a text that is no URL."""
        try:
            parts = URL(url)
        except ValueError:
            return cls()
        return cls(frozenset({(parts.raw_host.rstrip("."), parts.port)})) if parts.raw_host else cls()

    def covers(self, host: str, port: int) -> bool:
        """`host` as a URL parser spells it: lower case, IDNA, no brackets."""
        host = host.rstrip(".")
        return (host, port) in self.hosts or (host, None) in self.hosts

    def __str__(self) -> str:
        bracketed = ((f"[{host}]" if ":" in host else host, port) for host, port in self.hosts)
        return ", ".join(sorted(host if port is None else f"{host}:{port}" for host, port in bracketed))


NO_TRUSTED_HOSTS = TrustedHosts()


def _host_and_port(entry: str) -> tuple[str, int | None]:
    try:
        parts = URL(f"http://{entry}") if _HOST_AND_PORT.fullmatch(entry) else URL()
    except ValueError:
        parts = URL()
    if not parts.raw_host:
        raise ValueError(f"must be host or host:port, comma-separated and IPv6 in brackets; got {entry}")
    return parts.raw_host.rstrip("."), parts.explicit_port
