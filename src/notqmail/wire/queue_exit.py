"""qmail-queue's exit codes and the sentence each becomes (qmail-queue(8)). They are the interface: never renumber."""

from notqmail.wire.reports import Report, permanent, success, temporary

ACCEPTED = 0
ADDRESS_TOO_LONG = 11
REJECTED = 31
OUT_OF_MEMORY = 51
TIMED_OUT = 52
WRITE_FAILED = 53
READ_FAILED = 54
NO_CONFIGURATION = 55
NETWORK_TROUBLE = 56
NO_HOME = 61
NO_QUEUE = 62
NO_PID_FILE = 63
NO_MESS_LINK = 64
NO_INTD_FILE = 65
NO_TODO_LINK = 66
SERVER_REJECTED_FOR_NOW = 71
SERVER_TIMED_OUT = 72
SERVER_REFUSED = 73
SERVER_FAILED = 74
BUG = 81
CUSTOM = 82  # the text is on the error pipe
CUSTOM_OLD = 88  # the same, of older patches
BAD_ENVELOPE = 91
NO_EXEC = 120

_CREATING = b"qq trouble creating files in queue (#4.3.0)"
_TEXTS = {
    ADDRESS_TOO_LONG: permanent(b"envelope address too long for qq (#5.1.3)"),
    115: permanent(b"envelope address too long for qq (#5.1.3)"),
    REJECTED: permanent(b"mail server permanently rejected message (#5.3.0)"),
    OUT_OF_MEMORY: temporary(b"qq out of memory (#4.3.0)"),
    TIMED_OUT: temporary(b"qq timeout (#4.3.0)"),
    WRITE_FAILED: temporary(b"qq write error or disk full (#4.3.0)"),
    READ_FAILED: temporary(b"qq read error (#4.3.0)"),
    NO_CONFIGURATION: temporary(b"qq unable to read configuration (#4.3.0)"),
    NETWORK_TROUBLE: temporary(b"qq trouble making network connection (#4.3.0)"),
    NO_HOME: temporary(b"qq trouble in home directory (#4.3.0)"),
    NO_PID_FILE: temporary(_CREATING),
    NO_QUEUE: temporary(_CREATING),
    NO_MESS_LINK: temporary(_CREATING),
    NO_INTD_FILE: temporary(_CREATING),
    NO_TODO_LINK: temporary(_CREATING),
    SERVER_REJECTED_FOR_NOW: temporary(b"mail server temporarily rejected message (#4.3.0)"),
    SERVER_TIMED_OUT: temporary(b"connection to mail server timed out (#4.4.1)"),
    SERVER_REFUSED: temporary(b"connection to mail server rejected (#4.4.1)"),
    SERVER_FAILED: temporary(b"communication with mail server failed (#4.4.2)"),
    BUG: temporary(b"qq internal bug (#4.3.0)"),
    BAD_ENVELOPE: temporary(b"qq internal bug (#4.3.0)"),
    NO_EXEC: temporary(b"unable to exec qq (#4.3.0)"),
}
CRASHED = temporary(b"qq crashed (#4.3.0)")
CUSTOM_TEXT_MIN = 3  # a shorter text on the error pipe is ignored


def report_for_exit(code: int, custom: bytes = b"") -> Report:
    """What qmail-queue's exit code means to its caller; `custom` is what came through the error pipe."""
    if code == ACCEPTED:
        return success()
    if code in (CUSTOM, CUSTOM_OLD) and len(custom) >= CUSTOM_TEXT_MIN:
        kind, text = custom[:1], _printable(custom[1:])
        return permanent(text) if kind == b"D" else temporary(text)
    if code in _TEXTS:
        return _TEXTS[code]
    if ADDRESS_TOO_LONG <= code <= 40:
        return permanent(b"qq permanent problem (#5.3.0)")
    return temporary(b"qq temporary problem (#4.3.0)")


def exit_for_report(report: Report) -> int:
    """An exit code that `report_for_exit` turns back into this answer; unknown texts keep only their kind."""
    if report.succeeded:
        return ACCEPTED
    for code, known in _TEXTS.items():
        if known == report:
            return code
    return REJECTED if report.kind == b"D" else SERVER_REJECTED_FOR_NOW


def _printable(text: bytes) -> bytes:
    """Text of a stranger's program, fit for one SMTP reply line: cut at NUL, control bytes become `?`."""
    text = text.split(b"\0", 1)[0].rstrip(b"\r\n")
    return bytes(byte if 32 <= byte != 127 else 63 for byte in text)
