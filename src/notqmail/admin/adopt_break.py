"""Which character parts user and extension in a home (conf-break), for `notqmail adopt`.

It is compiled into qmail-getpw and qmail-pw2u and stands in no file. So the home's own qmail-getpw is asked for an
address that cannot mean anything else, as qmail-lspawn asks it for each delivery: as qmailp, with nothing but its
arguments, for a few seconds at most. It only reads the password file.
"""

import os
import pwd
import select
import subprocess
import time

from notqmail.admin.adopt_programs import COMPILED
from notqmail.admin.launchers import writable_by_others
from notqmail.deliver.users import NAME_BYTES_MAX
from notqmail.unix.accounts import MissingAccount, accounts_for, is_single_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from notqmail.admin.adopt_programs import Bin

    Ask = Callable[[bytes], bytes]

CANDIDATES = (b"-", b"+", b"=", b".", b"_", b"~", b"%", b"^", b"#", b"!", b"/", b",", b":", b"*", b"|")
OTHER = b""
"""None of the candidates."""
_EXTENSION = b"xyzzy"
_FIELDS = 6
_ANSWER_BYTES_MAX = 4_096
_ANSWER_S = 5.0


class CannotTell(Exception):
    """The program could not be asked, or gave no answer of its kind; str() says which."""


def break_of_home(home: bytes, found: "Bin") -> bytes | None:
    """The character, OTHER, or None where the question does not come up: qmail-getpw is no C program, or everything
    belongs to one user. Raises CannotTell.
    """
    if found.programs["qmail-getpw"].kind != COMPILED or is_single_user(home):
        return None
    path = found.path("qmail-getpw")
    if os.geteuid() == 0:
        state = os.lstat(path)
        if state.st_uid or state.st_mode & 0o022 or writable_by_others(os.fsdecode(found.directory)):
            raise CannotTell("others than root can change qmail-getpw")
    who: tuple[int, int] | None = None
    try:
        accounts = accounts_for(home)
        if os.geteuid() == 0:
            who = accounts.uids["password"], accounts.gids["nofiles"]
    except MissingAccount as error:
        raise CannotTell(str(error).removeprefix("fatal: ")) from error
    name = a_user(pwd.getpwall())
    return break_character(lambda local: ask(path, local, who), name)


def a_user(accounts: "Iterable[pwd.struct_passwd]") -> bytes:
    """Somebody whom qmail-getpw takes for a user, alias first. Raises CannotTell."""
    for account in sorted(accounts, key=lambda one: one.pw_name != "alias"):
        name = os.fsencode(account.pw_name)
        if not account.pw_uid or not name.isalnum() or not name.islower():
            continue
        try:
            is_owner = os.stat(account.pw_dir).st_uid == account.pw_uid
        except OSError:
            continue  # then qmail-getpw does not take him either
        if is_owner and len(name) <= NAME_BYTES_MAX:
            return name
    raise CannotTell("there is no user with a home of his own to ask for")


def break_character(asked: "Ask", name: bytes) -> bytes:
    """The character behind which qmail-getpw sees an extension of the user `name`, OTHER when it is no candidate.
    `asked` runs it with an address and returns its output. Raises CannotTell.
    """
    for character in CANDIDATES:
        fields = asked(name + character + _EXTENSION).split(b"\0")
        if len(fields) != _FIELDS + 1 or fields[-1]:
            raise CannotTell("qmail-getpw answers in another form")
        if (fields[0].lower(), fields[_FIELDS - 1]) == (name, _EXTENSION):
            return character
    return OTHER


def ask(path: bytes, local: bytes, who: tuple[int, int] | None, seconds: float = _ANSWER_S) -> bytes:
    """What the program at `path` prints for `local`, run as `who` (uid, gid). Raises CannotTell."""
    uid, gid = who if who is not None else (None, None)
    try:
        child = subprocess.Popen(
            [path, local], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env={},
            start_new_session=True, user=uid, group=gid, extra_groups=None if who is None else [],
        )  # fmt: skip
    except OSError as error:
        raise CannotTell(f"qmail-getpw cannot be run: {error.strerror or error}") from error
    assert child.stdout is not None
    with child:
        try:
            answer = _read(child.stdout.fileno(), time.monotonic() + seconds)
            code = child.wait(seconds) if answer is not None else None
        except subprocess.TimeoutExpired:
            answer = code = None
        finally:
            child.kill()  # does nothing when it has ended
    if answer is None:
        raise CannotTell("qmail-getpw gives no end of an answer")
    if code != 0:
        raise CannotTell(f"qmail-getpw fails ({code})")
    return answer


def _read(descriptor: int, end_s: float) -> bytes | None:
    """Everything until it closes; None when that takes too long, or is too much."""
    answer = b""
    while len(answer) <= _ANSWER_BYTES_MAX:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end_s - time.monotonic()))
        if not ready:
            return None
        piece = os.read(descriptor, _ANSWER_BYTES_MAX)
        if not piece:
            return answer
        answer += piece
    return None
