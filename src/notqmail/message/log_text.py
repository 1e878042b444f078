"""What strangers wrote, made fit for one line of qmail-send's log (qmail-log(5)). Pure."""

_SAFE = bytes(0x2F if byte == 0x0A else byte if 33 <= byte <= 126 and byte != 0x25 else 0x5F for byte in range(256))


def log_text(text: bytes) -> bytes:
    """Line feeds become `/`; `%`, blanks, controls and everything above ASCII become `_`."""
    return text.translate(_SAFE)
