"""Who is logged in where: Linux's utmp file (utmp(5)). Other systems keep it otherwise, and there it tells nothing."""

UTMP_PATH = "/var/run/utmp"
_LINE, _USER, _NAME_BYTES = 8, 44, 32  # where the terminal and the user stand in a record, and how long they may be
_RECORD_BYTES = 384
_WIDE_RECORD_BYTES = 400  # where the kernel's words were never 32 bits, times and session take 8 bytes each
_WIDE_MACHINES = ("aarch64", "riscv64", "loongarch64", "alpha", "ia64")


def record_bytes(machine: str) -> int:
    """The length of a record on a machine, named as uname(2) names it."""
    return _WIDE_RECORD_BYTES if machine in _WIDE_MACHINES else _RECORD_BYTES


def logged_in(utmp: bytes, length: int) -> list[tuple[bytes, bytes]]:
    """(user, terminal) of each session, records having `length` bytes; a last, partial one is ignored."""
    found = []
    for start in range(0, len(utmp) - length + 1, length):
        record = utmp[start : start + length]
        if record[:2] in (b"\x07\0", b"\0\x07"):  # USER_PROCESS, in either byte order
            found.append((_text(record, _USER), _text(record, _LINE)))
    return found


def _text(record: bytes, start: int) -> bytes:
    return record[start : start + _NAME_BYTES].partition(b"\0")[0]
