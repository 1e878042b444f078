"""For whom do we take mail from a stranger? rcpthosts, morercpthosts.cdb, RELAYCLIENT (qmail-smtpd(8))."""

import os

from notqmail.unix.cdb import Cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    KnowsHost = Callable[[bytes], bool]


HOST_MAX = 255  # bytes of a name in the DNS; a longer one is not worth the look-ups, one for each dot in it


def host_keys(host: bytes) -> "Iterator[bytes]":
    """What a host may be listed as: itself, then each of its suffixes that begins with a dot. Nothing for b""."""
    if host:
        yield host
    dot = host.find(b".", 1)
    while dot >= 0:
        yield host[dot:]
        dot = host.find(b".", dot + 1)


def may_receive(recipient: bytes, rcpthosts: frozenset[bytes] | None, more: "KnowsHost") -> bool:
    """Whether a stranger may send to this recipient; `more` is asked for hosts that rcpthosts does not have.

    No rcpthosts at all admits everything; so does a recipient without @, which is ours by definition. Raises
    what `more` raises.
    """
    if rcpthosts is None:
        return True
    _, at, host = recipient.rpartition(b"@")
    if not at:
        return True
    keys = list(host_keys(host.lower()))
    if any(key in rcpthosts for key in keys):
        return True
    return len(host) <= HOST_MAX and any(more(key) for key in keys)


def more_hosts(home: bytes) -> "KnowsHost":
    """A function that looks a host up in HOME/control/morercpthosts.cdb; no such file: no host.

    Raises (when called) OSError and cdb.Damaged.
    """
    path = os.path.join(home, b"control/morercpthosts.cdb")

    def knows(host: bytes) -> bool:
        try:
            table = Cdb(path)
        except FileNotFoundError:
            return False
        with table:
            return table.get(host) is not None

    return knows


def check_more_hosts(home: bytes) -> None:
    """Raises OSError when morercpthosts.cdb is there and cannot be read: known at the greeting, not at a RCPT."""
    try:
        Cdb(os.path.join(home, b"control/morercpthosts.cdb")).close()
    except FileNotFoundError:
        pass  # optional
