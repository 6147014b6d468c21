"""Which network addresses a request may make the worker dial."""

import ipaddress

# Public by the registry, yet inside a cloud: Azure's wire server, and tunnels that carry an IPv4 address.
_NOT_PUBLIC = [ipaddress.ip_network(net) for net in ("168.63.129.16/32", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")]


def is_public_address(address: str) -> bool:
    """True for a unicast address that the whole internet routes."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast and not any(ip.version == n.version and ip in n for n in _NOT_PUBLIC)
