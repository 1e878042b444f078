"""The classic accounts, or one user for everything.

qmail's programs distrust each other by running as different users (conf-users, conf-groups). In *single-user
mode* the process's own user owns the queue: every role is that user, and nothing needs root or an account.
The test is who owns HOME/queue and, in it, info: a classic installation gives the one to qmailq and the other to
qmails, so not even a program that was started as qmailq takes itself for everybody.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

USERS = {
    "alias": "alias", "daemon": "qmaild", "log": "qmaill", "owner": "root", "password": "qmailp",
    "queue": "qmailq", "remote": "qmailr", "send": "qmails",
}  # fmt: skip
GROUPS = {"queue": "qmail", "nofiles": "nofiles"}


class MissingAccount(Exception):
    """An account of the classic installation does not exist; str() is qmail's own line."""


class Accounts:
    """Numbers of the classic users and groups; `single_user` when they are all the same, ours."""

    __slots__ = ("gids", "single_user", "uids")

    def __init__(self, single_user: bool, uids: "Mapping[str, int]", gids: "Mapping[str, int]") -> None:
        self.single_user, self.uids, self.gids = single_user, uids, gids


def is_single_user(home: bytes) -> bool:
    """Whether this process's effective user owns the queue of this home, and qmail-send's part of it too."""
    queue = os.path.join(home, b"queue")
    try:
        if os.stat(queue).st_uid != os.geteuid():
            return False
        return os.stat(os.path.join(queue, b"info")).st_uid == os.geteuid()
    except FileNotFoundError:
        return os.path.isdir(queue)  # half made, and by us; or not made yet
    except OSError:
        return False  # one we may not see: not ours


def accounts_for(home: bytes) -> Accounts:
    """The accounts this home runs with. Raises MissingAccount where a classic one does not exist."""
    if is_single_user(home):
        uid, gid = os.geteuid(), os.getegid()
        return Accounts(True, dict.fromkeys(USERS, uid), dict.fromkeys(GROUPS, gid))
    import grp
    import pwd

    uids: dict[str, int] = {}
    gids: dict[str, int] = {}
    for role, name in USERS.items():
        try:
            uids[role] = pwd.getpwnam(name).pw_uid
        except KeyError:
            raise MissingAccount(f"fatal: unable to find user {name}") from None
    for role, name in GROUPS.items():
        try:
            gids[role] = grp.getgrnam(name).gr_gid
        except KeyError:
            raise MissingAccount(f"fatal: unable to find group {name}") from None
    return Accounts(False, uids, gids)


def become(uid: int, gid: int, groups: "list[int] | None" = None) -> None:
    """Gives up this process's rights for good: groups, then gid, then uid, then looks that it held.

    Does nothing when we already are that user and not root (single-user mode). Raises OSError.
    """
    if os.geteuid() != 0 and os.geteuid() == uid:
        return
    os.setgroups([gid] if groups is None else groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError("rights were not given up")
