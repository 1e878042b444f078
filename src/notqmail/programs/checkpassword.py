"""checkpassword(8): judges the login on descriptor 3, then runs a program as that user."""

import os
import sys

from notqmail.fetch import checkpassword, passwords
from notqmail.fetch.checkpassword import LOGIN_FD, MISUSED, TROUBLE, Leave
from notqmail.fetch.logins import Account, Doorman, system_shadow
from notqmail.fetch.secret import overwrite
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import complain, run

USAGE = """usage: checkpassword PROGRAM [ARGUMENT ...]    login, password, timestamp on descriptor 3, each ended by NUL
       checkpassword --make LOGIN [ACCOUNT]    reads a password, prints a line for control/passwords
"""


def main() -> int:
    """Ends here only when the login is not good: else this process has become the program."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        if words[:1] == [b"--make"]:
            return make(words[1:])
        if not words:
            raise Leave(MISUSED)
        account = judge(LOGIN_FD)
        checkpassword.become_and_run(account, words, os.environb)
    except Leave as leave:
        if leave.text:
            complain(f"checkpassword: {leave.text}")
        return leave.code


def judge(descriptor: int) -> Account:
    """The account of the login on the descriptor, which is closed. Raises Leave."""
    record = checkpassword.read_record(descriptor)
    os.close(descriptor)
    password = bytearray()
    try:
        login, password = checkpassword.split_record(record)
        account = Doorman(home_directory(os.environb), Clock().now_s(), system_shadow).admit(login, password)
    except passwords.CannotJudge as trouble:
        raise Leave(TROUBLE, str(trouble)) from trouble
    finally:
        overwrite(record)
        overwrite(password)
    if account is None:
        raise Leave(checkpassword.BAD_LOGIN)
    return account


def make(words: list[bytes]) -> int:
    """A line for control/passwords on descriptor 1. Raises Leave."""
    if not 1 <= len(words) <= 2 or any(not word or {*b":\n\0"} & {*word} or word[:1] == b"#" for word in words):
        raise Leave(MISUSED, "usage: checkpassword --make LOGIN [ACCOUNT]")
    password = _typed() if os.isatty(0) else bytearray(sys.stdin.buffer.readline().rstrip(b"\r\n"))
    room = checkpassword.RECORD_MAX - len(words[0]) - 100  # a timestamp comes too
    if not 0 < len(password) <= room or b"\0" in password:
        raise Leave(MISUSED, f"a password has between 1 and {room} bytes, none of them NUL")
    try:
        fields = [words[0], passwords.new_hash(password, os.urandom(passwords.SALT_BYTES)), *words[1:]]
    except passwords.CannotJudge as trouble:
        raise Leave(TROUBLE, str(trouble)) from trouble
    finally:
        overwrite(password)
    sys.stdout.buffer.write(b":".join(fields) + b"\n")
    return 0


def _typed() -> bytearray:
    """Asks twice at the terminal. Raises Leave."""
    import getpass

    first = getpass.getpass("password: ")
    if getpass.getpass("again: ") != first:
        raise Leave(MISUSED, "these were two passwords")
    return bytearray(os.fsencode(first))


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
