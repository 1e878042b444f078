"""The control files a new home starts with: enough to work, and no open relay.

Pure: a host name in, file names and bytes out. What config-fast of notqmail writes (me, locals, rcpthosts,
defaultdomain, plusdomain), and what a home started by `notqmail run` needs beside that.
"""

from notqmail.unix.cdb import build_cdb

DEFAULT_HOST = b"localhost.localdomain"
"""Not plain `localhost`: qmail-inject adds defaultdomain to hosts without a dot; the sum is to be local."""

RELAY_SOURCES = (b"127.",)  # not ::1: tcprules(1) takes a line's first colon for the end of the address


def domains_of(host: bytes) -> tuple[bytes, bytes]:
    """(defaultdomain, plusdomain) as config-fast has them: all but the first label; the last two."""
    labels = host.split(b".")
    defaultdomain = b".".join(labels[1:]) if len(labels) > 1 else host
    return defaultdomain, b".".join(labels[-2:])


def control_files(host: bytes) -> dict[str, bytes]:
    """Each control file of a new home."""
    defaultdomain, plusdomain = domains_of(host)
    here = dict.fromkeys([b"localhost", b"localhost." + defaultdomain, host])
    return {
        "me": host + b"\n",
        "defaultdomain": defaultdomain + b"\n",
        "plusdomain": plusdomain + b"\n",
        "locals": b"".join(name + b"\n" for name in here),
        "rcpthosts": b"".join(name + b"\n" for name in here),
        "defaultdelivery": b"./Maildir/\n",
        "concurrencylocal": b"40\n",  # the default of 10 is for a process each; ours share one and its syncs
        "concurrencyslow": b"400\n",  # beyond concurrencyremote: who waits for dead and slow hosts
        "concurrencyremote": b"100\n",  # 20 likewise; no host gets more than concurrencyhost
    }


def relay_rules() -> tuple[bytes, bytes]:
    """(text, cdb) of tcp.smtp: who is on this machine may send anywhere, others only to rcpthosts.

    The text is what tcprules(1) of ucspi-tcp reads, the cdb what it makes of it: `+NAME=VALUE`, NUL.
    """
    text = b"# tcprules reads this; qmail-smtpd reads the .cdb made from it\n"
    records = []
    for source in RELAY_SOURCES:
        text += source + b':allow,RELAYCLIENT=""\n'
        records.append((source, b"+RELAYCLIENT=\0"))
    return text + b":allow\n", build_cdb([*records, (b"", b"")])
