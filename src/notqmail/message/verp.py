"""Senders per delivery, and who gets a bounce (qmail-send(8)). Pure.

A sender `PRE@HOST-@[]` asks for one return address per recipient (VERP): box and domain of the recipient go
between PRE and HOST, so a bounce names the address that failed even when its text does not.
"""

DOUBLE_BOUNCE_SENDER = b"#@[]"
_PER_RECIPIENT = b"-@[]"


def asks_for_expansion(sender: bytes) -> bool:
    """Whether each recipient may get a sender of its own, so that no two share a delivery."""
    return sender.endswith(_PER_RECIPIENT)


def expand_sender(sender: bytes, recipient: bytes) -> bytes:
    """The envelope sender of one delivery; `recipient` is the rewritten one, with a virtual domain's prefix.

    Changed only when the sender asks for it, has an `@` before the mark and the recipient has an `@` too.
    """
    if not asks_for_expansion(sender):
        return sender
    prefix, at, host = sender.removesuffix(_PER_RECIPIENT).rpartition(b"@")
    box, recipient_at, domain = recipient.rpartition(b"@")
    if not at or not recipient_at:
        return sender
    return prefix + box + b"=" + domain + b"@" + host


def bounce_sender(sender: bytes) -> bytes:
    """The original sender as a bounce addresses and shows it: without the mark that asks for VERP."""
    return sender.removesuffix(_PER_RECIPIENT)


def bounce_envelope(sender: bytes, double_bounce_recipient: bytes) -> tuple[bytes, bytes] | None:
    """(envelope sender, recipient) of the bounce for a message of `sender` (any form); None: a triple bounce,
    thrown away.

    A failed bounce goes to `double_bounce_recipient` from `#@[]`; when that fails too, nobody is left.
    """
    shown = bounce_sender(sender)
    if shown == DOUBLE_BOUNCE_SENDER:
        return None
    if not shown:
        return DOUBLE_BOUNCE_SENDER, double_bounce_recipient
    return b"", shown
