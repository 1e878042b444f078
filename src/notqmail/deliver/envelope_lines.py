"""The lines a local delivery adds, and the environment its programs see (qmail-command(8)). Pure.

DTLINE, RPLINE and UFLINE are the lines themselves, each with its newline.
"""

from notqmail.message.address import quote_address
from notqmail.message.dates import mbox_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_BLANKS_TO_DASHES = bytes.maketrans(b" \t\n", b"---")


def delivered_to(local: bytes, domain: bytes) -> bytes:
    """The `Delivered-To` line: the mark by which a loop is found, so its case is kept."""
    return b"Delivered-To: %b@%b\n" % (local.replace(b"\n", b"_"), domain.replace(b"\n", b"_"))


def return_path(sender: bytes) -> bytes:
    """The `Return-Path` line, the sender quoted as a header needs it."""
    return b"Return-Path: <%b>\n" % quote_address(sender).replace(b"\n", b"_")


def from_line(sender: bytes, now_s: int) -> bytes:
    """The mbox `From ` line; blanks in the sender would end the word, so they are dashes."""
    who = sender.translate(_BLANKS_TO_DASHES) or b"MAILER-DAEMON"
    return b"From %b %b\n" % (who, mbox_date(now_s))


def extension_parts(ext: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """EXT, EXT2, EXT3, EXT4: what is left after the 0th to 3rd `-`, empty when nothing is."""
    second = ext.partition(b"-")[2]
    third = second.partition(b"-")[2]
    return ext, second, third, third.partition(b"-")[2]


def host_parts(domain: bytes) -> tuple[bytes, bytes, bytes]:
    """HOST2, HOST3, HOST4: the domain before its last, last but one, last but two dot; the last stub repeats."""
    second = _cut_label(domain)
    third = _cut_label(second)
    return second, third, _cut_label(third)


def _cut_label(name: bytes) -> bytes:
    dot = name.rfind(b".")
    return name if dot < 0 else name[:dot]


def program_environment(
    inherited: "Mapping[bytes, bytes]", *, user: bytes, home: bytes, local: bytes, ext: bytes, domain: bytes,
    sender: bytes, new_sender: bytes, dtline: bytes, rpline: bytes, ufline: bytes, default: bytes | None,
) -> dict[bytes, bytes]:  # fmt: skip
    """The inherited environment with qmail-command(8)'s variables; DEFAULT only for a `default` file."""
    environ = dict(inherited)
    environ.update(
        {
            b"HOST": domain, b"HOME": home, b"USER": user, b"LOCAL": local, b"RECIPIENT": local + b"@" + domain,
            b"DTLINE": dtline, b"SENDER": sender, b"RPLINE": rpline, b"UFLINE": ufline, b"NEWSENDER": new_sender,
        }
    )  # fmt: skip
    environ.update(zip((b"EXT", b"EXT2", b"EXT3", b"EXT4"), extension_parts(ext), strict=True))
    environ.update(zip((b"HOST2", b"HOST3", b"HOST4"), host_parts(domain), strict=True))
    if default is not None:
        environ[b"DEFAULT"] = default
    return environ
