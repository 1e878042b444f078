"""`notqmail init`: makes a home, and makes an old one whole again.

What is there stays as it is: no control file, no mail, no program of somebody else's is ever overwritten.
Only our own launchers in HOME/bin are written anew, so running it again is how an upgrade reaches them.

Two kinds of home (unix/accounts.py): *single-user*, where the caller owns everything, and *classic*, made
by root with the accounts of qmail, owners and modes as notqmail's own installer leaves them.
"""

import os
import pwd
import sys

from notqmail.admin import launchers
from notqmail.admin.queue_tree import QueueTree
from notqmail.admin.settings import DEFAULT_HOST, control_files, relay_rules
from notqmail.queue.layout import create_queue
from notqmail.unix.accounts import GROUPS, USERS, Accounts, accounts_for, is_single_user

SOCKET_PATH_MAX = 107  # sun_path of Linux without its NUL
_ALIASES = ("postmaster", "mailer-daemon", "root")  # RFC 5321 wants the first; bounces answer to the second


class CannotMake(Exception):
    """The home cannot be made or used as asked; str() says why and what to do."""


def make_home(home: bytes, *, host: bytes | None, classic: bool, tree: QueueTree | None = None) -> list[str]:
    """Makes `home` (absolute) or completes it; returns notices for the person, each a sentence.

    `host` is the name that the person wants for this machine; None: whatever is there, or else the default. Stopped in
    the middle, by a kill or a power cut, it leaves no half files: once more, and the home is what it should have been.
    Raises CannotMake, MissingAccount (classic without the accounts), OSError.
    """
    wanted, host = host, DEFAULT_HOST if host is None else host
    if not classic:
        own_name()
    if len(home + b"/run/qmail-queue") > SOCKET_PATH_MAX:
        raise CannotMake(f"{os.fsdecode(home)} is too long a path for a Unix socket in it: choose a shorter one")
    if not host or any(blank in host for blank in (b" ", b"\t", b"\n", b"\0", b"/")):
        raise CannotMake(f"{os.fsdecode(host)!r} is not a host name, such as mail.example.org")
    if is_foreign_queue(home):
        classic = True
    if classic and os.geteuid() != 0:
        raise CannotMake("only root can make a home that uses the qmail accounts, or complete one")
    accounts = _accounts(home, classic=classic)
    _make_directories(home, accounts)
    create_queue(home, accounts)
    tree = QueueTree(home) if tree is None else tree
    _write_settings(tree, host, accounts)
    launchers.compile_package()
    foreign = launchers.write_launchers(tree, home)
    tree.sync([b"bin", b"control", b"alias", b""])
    return [*_name_notices(home, wanted), *_notices(home, accounts, foreign)]


def own_name() -> str:
    """The caller's name in the password file. Raises CannotMake: without a name there is no address."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise CannotMake(f"user id {os.geteuid()} has no name on this system, so no mail can be for it") from None


def is_foreign_queue(home: bytes) -> bool:
    """Whether the home has a queue that belongs to another user than us: a classic home."""
    return os.path.isdir(os.path.join(home, b"queue")) and not is_single_user(home)


def _accounts(home: bytes, *, classic: bool) -> Accounts:
    if classic:
        if is_single_user(home):
            raise CannotMake(f"{os.fsdecode(home)} is a single-user home already: it cannot become a classic one")
        return accounts_for(home)
    uid, gid = os.geteuid(), os.getegid()
    return Accounts(True, dict.fromkeys(USERS, uid), dict.fromkeys(GROUPS, gid))


def _make_directories(home: bytes, accounts: Accounts) -> None:
    """Owners and modes of notqmail's installer; a directory that exists keeps its own."""
    owner, group = accounts.uids["owner"], accounts.gids["queue"]
    _make_directory(home, 0o755, owner, group)
    for name in (b"control", b"users", b"bin"):
        _make_directory(os.path.join(home, name), 0o755, owner, group)
    _make_directory(os.path.join(home, b"run"), 0o755, accounts.uids["queue"], group)  # qmail-queue --serve binds here
    _make_directory(os.path.join(home, b"alias"), 0o2755, accounts.uids["alias"], group)
    if accounts.single_user:
        for name in (b"Maildir", b"Maildir/tmp", b"Maildir/new", b"Maildir/cur"):
            _make_directory(os.path.join(home, name), 0o700, owner, group)


def _make_directory(path: bytes, mode: int, uid: int, gid: int) -> None:
    """With its owner and mode at once: a directory that exists is not looked at again."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)  # what leads to the home; the rest exists
    if os.path.lexists(path):
        return
    new = path + launchers.NEW_SUFFIX
    try:
        os.rmdir(new)
    except FileNotFoundError:
        pass  # no earlier try was stopped just here
    os.mkdir(new, mode)
    if os.geteuid() == 0:
        os.chown(new, uid, gid)
    os.chmod(new, mode)  # whatever the umask said
    QueueTree().rename(new, path)


def _write_settings(tree: QueueTree, host: bytes, accounts: Accounts) -> None:
    for name, content in control_files(host).items():
        _write_new(tree, b"control/" + os.fsencode(name), content)
    text, rules = relay_rules()
    # The cdb is written only beside a text of our own: a rule file that a person wrote is compiled by that person. And
    # before it, for who has the text is not asked again.
    if tree.aspect(b"control/tcp.smtp") is None:
        _write_new(tree, b"control/tcp.smtp.cdb", rules)
        tree.sync([b"control"])
    _write_new(tree, b"control/tcp.smtp", text)
    if accounts.single_user:
        me = own_name()
        for name in _ALIASES:
            if name != me:
                _write_new(tree, b"alias/.qmail-" + name.encode(), b"&" + os.fsencode(me) + b"\n")


def _write_new(tree: QueueTree, path: bytes, content: bytes) -> None:
    """Creates a file, 0644, whole or not at all; one that is there stays."""
    new = path + launchers.NEW_SUFFIX
    tree.discard(new)
    if tree.aspect(path) is not None:
        return
    tree.create(new, (content,))
    try:
        tree.settle(new, os.geteuid(), None, 0o644)
        tree.sync([new])
        tree.link(new, path)
    finally:
        tree.discard(new)


def _name_notices(home: bytes, wanted: bytes | None) -> list[str]:
    with open(os.path.join(home, b"control/me"), "rb") as file:
        name = file.readline().rstrip()
    if wanted is None or name == wanted:
        return []
    return [
        f"control/me says {os.fsdecode(name)} and stays; to give this host another name change the files in control/ "
        "that have it (me, locals, rcpthosts, defaultdomain, plusdomain)"
    ]


def code_notices() -> list[str]:
    """What is wrong with where this package is, should root and the qmail accounts run it."""
    notices = [
        f"{directory} can be written by others than root, and root will run what is in it: "
        "install the package where only root may write"
        for directory in launchers.code_directories()
        if launchers.writable_by_others(directory)
    ]
    return notices + reach_notices()


def reach_notices() -> list[str]:
    """The same: what the qmail accounts could not run at all."""
    return [
        f"{path} cannot be reached by the qmail accounts: a directory above it is closed to them"
        for path in (os.path.realpath(sys.executable), *launchers.code_directories())
        if launchers.closed_to_others(path)
    ]


def _notices(home: bytes, accounts: Accounts, kept: list[str]) -> list[str]:
    notices = []
    if kept:
        notices.append(
            f"left alone in bin/, for they are not ours: {' '.join(kept)} "
            "(`notqmail launcher` can put one of ours in such a place)"
        )
    if not accounts.single_user:
        notices += code_notices()
        missing = [name for name in _ALIASES if not os.path.lexists(_alias_path(home, name))]
        if missing:
            notices.append(f"say who reads the mail of {', '.join(missing)}: write alias/.qmail-NAME for each")
    return notices


def _alias_path(home: bytes, name: str) -> bytes:
    return os.path.join(home, b"alias", b".qmail-" + name.encode())
