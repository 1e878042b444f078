"""Which IP addresses are this machine's own, as text: for `[our address]` in mail addresses and for MX loops.

IPv4 comes from the kernel's interface list (netdevice(7), SIOCGIFCONF), interfaces that are up; IPv6 from
/proc/net/if_inet6, which only Linux has: elsewhere there are no IPv6 addresses in the answer. Like qmail's ipme,
0.0.0.0 is always ours (RFC 1122 3.2.1.3), and so is `::`.
"""

import struct

_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 1
_NAME_BYTES = 16
_IF_INET6 = "/proc/net/if_inet6"


def own_addresses() -> frozenset[bytes]:
    """All of them, IPv4 dotted, IPv6 in the short form of RFC 5952. Raises OSError."""
    return frozenset({b"0.0.0.0", b"::", *_ipv4_addresses(), *_ipv6_addresses()})


def _ipv4_addresses() -> set[bytes]:
    import array  # here, for a one-shot program needs all this only for an address in brackets
    import fcntl
    import socket

    record_bytes = _NAME_BYTES + (24 if struct.calcsize("P") == 8 else 16)  # struct ifreq, by its longest member
    room = 64 * record_bytes
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        while True:  # the kernel fills what fits: a list that nearly fills its room may be cut
            names = array.array("B", bytes(room))
            address, _ = names.buffer_info()
            answer = fcntl.ioctl(asker, _SIOCGIFCONF, struct.pack("@iP", room, address))
            used = struct.unpack_from("@i", answer)[0]
            if used + record_bytes < room:
                break
            room *= 2
        found = set()
        listing = names.tobytes()[:used]
        for start in range(0, used, record_bytes):
            record = listing[start : start + record_bytes]
            family = struct.unpack_from("@H", record, _NAME_BYTES)[0]
            if family == socket.AF_INET and _is_up(asker.fileno(), record[:_NAME_BYTES]):
                found.add(socket.inet_ntoa(record[_NAME_BYTES + 4 : _NAME_BYTES + 8]).encode())
        return found


def _is_up(asker_fd: int, name: bytes) -> bool:
    import fcntl

    try:
        answer = fcntl.ioctl(asker_fd, _SIOCGIFFLAGS, name + bytes(24))
    except OSError:
        return False  # the interface went away between the two questions
    flags: int = struct.unpack_from("@H", answer, _NAME_BYTES)[0]
    return bool(flags & _IFF_UP)


def _ipv6_addresses() -> set[bytes]:
    import socket

    try:
        with open(_IF_INET6, "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return set()  # no IPv6 in this kernel
    texts = (socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0].decode())) for line in lines)
    return {text.encode() for text in texts}
