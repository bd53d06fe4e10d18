"""Networks of addresses, as manifests write them."""

import ipaddress


def check_network(text: str) -> None:
    """Raise ValueError for a text that is neither an address nor a network, or a network with bits of a host."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            "it must be an address, or a network whose address has no bit past its length, such as 10.0.0.0/8 or "
            "fd00::/8"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("it is an IPv4 address in IPv6's form; write it as IPv4")
