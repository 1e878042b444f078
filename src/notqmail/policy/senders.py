"""From whom do we take no mail? badmailfrom (qmail-smtpd(8))."""


def is_bad_sender(sender: bytes, badmailfrom: frozenset[bytes]) -> bool:
    """Whether the list has this address or its `@host`, in any case. Hosts below that host are not meant."""
    if not badmailfrom:
        return False
    sender = sender.lower()
    if sender in badmailfrom:
        return True
    at = sender.rfind(b"@")
    return at >= 0 and sender[at:] in badmailfrom
