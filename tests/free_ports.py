"""TCP ports of 127.0.0.1 that stay free until the test's own program takes them.

A port the kernel chooses is given back before the program binds it, and the kernel may give it to the next connection
of anybody: then the program finds it taken. Those here lie below the range the kernel chooses from, no process hands
one out twice, and processes begin far from each other.
"""

import os
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_LOWEST = 15_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _candidates() -> Iterator[int]:
    """Ports to try, without end; 0 lets the kernel choose, where it chooses from all there are."""
    try:
        first = int(_RANGE.read_text().split()[0])
    except OSError:
        first = 32_768  # Linux as it comes; elsewhere at least a likely one
    room = first - _LOWEST
    if room < 1_000:
        while True:
            yield 0
    begin = int.from_bytes(os.urandom(4))  # not the process number: in a namespace of its own each has the same
    for step in count():
        yield _LOWEST + (begin + step) % room


_ports = _candidates()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses."""
    for port in _ports:
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody's service
            return int(trial.getsockname()[1])
    raise AssertionError("the candidates never end")
