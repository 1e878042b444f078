"""deliver/users.py: users/cdb, the password file, single-user mode."""

import errno
import os
import pwd
from types import SimpleNamespace

import pytest

from notqmail.control.assign import Assignment, records
from notqmail.deliver.users import (
    BUG,
    CDB_TROUBLE,
    NFS_TROUBLE,
    NO_ALIAS,
    AssignedUsers,
    LookupFailed,
    find_account,
    single_user_account,
)
from notqmail.unix.cdb import build_cdb

ASSIGN = (
    b"=joe:joe:503:78:/home/joe:::\n=joe:second:1:1:/:::\n+joe-:joe:503:78:/home/joe:-::\n"
    b"+joe-list-:lists:504:78:/home/lists:-:pre-:\n+:alias:7790:2108:/alias:-::\n.\n"
)


def _write(home, text):
    (home / "users").mkdir(exist_ok=True)
    temporary = home / "users" / "cdb.tmp"
    temporary.write_bytes(build_cdb(records(text)))
    temporary.rename(home / "users" / "cdb")


LOOKUPS = [
    (b"JOE", Assignment(b"joe", 503, 78, b"/home/joe", b"", b"")),  # the first of two lines wins
    (b"joe-Ext.X", Assignment(b"joe", 503, 78, b"/home/joe", b"-", b"Ext.X")),
    (b"Joe-List-Sub-A", Assignment(b"lists", 504, 78, b"/home/lists", b"-", b"pre-Sub-A")),  # the longest wins
    (b"joey", Assignment(b"alias", 7790, 2108, b"/alias", b"-", b"joey")),
]


@pytest.mark.parametrize(("local", "expected"), LOOKUPS)
def test_an_address_finds_its_assignment(tmp_path, local, expected):
    _write(tmp_path, ASSIGN)
    assigned = AssignedUsers(os.fsencode(tmp_path))
    assert assigned.find(local) == expected
    assigned.close()


def test_a_new_cdb_counts_from_the_next_lookup(tmp_path):
    assigned = AssignedUsers(os.fsencode(tmp_path))
    assert assigned.find(b"joe") is None  # no cdb at all
    _write(tmp_path, ASSIGN)
    assert assigned.find(b"joe").uid == 503
    _write(tmp_path, b"=jim:jim:9:9:/jim:::\n.\n")
    assert assigned.find(b"joe") is None
    assert assigned.find(b"jim").uid == 9
    (tmp_path / "users" / "cdb").unlink()
    before = len(os.listdir("/proc/self/fd"))
    assert assigned.find(b"jim") is None
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.parametrize("content", [b"", b"x" * 100, build_cdb([(b"!a\0", b"x")])])
def test_a_damaged_cdb_defers_and_leaks_nothing(tmp_path, content):
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "cdb").write_bytes(content)
    assigned = AssignedUsers(os.fsencode(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(LookupFailed) as failed:
            assigned.find(b"joe")
        assert failed.value.code == CDB_TROUBLE
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_record_without_its_fields_is_a_bug_not_a_user(tmp_path):
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "cdb").write_bytes(build_cdb([(b"!joe\0", b"joe\x001"), (b"", b"")]))
    users = AssignedUsers(os.fsencode(tmp_path))
    with pytest.raises(LookupFailed) as failed:
        users.find(b"joe")
    assert failed.value.code == BUG
    users.close()


PEOPLE = {
    "joe": (503, "/home/joe"), "joe-work": (504, "/home/joe-work"), "toor": (0, "/root"), "gone": (505, "/nohome"),
    "guest": (506, "/home/joe"), "stale": (507, "/stale"), "alias": (7790, "/alias"), "x" * 31: (508, "/home/x"),
    "y" * 32: (509, "/home/y"),
}  # fmt: skip
OWNERS = {"/home/joe": 503, "/home/joe-work": 504, "/root": 0, "/alias": 7790, "/home/x": 508, "/home/y": 509}


def _lookup(name):
    uid, home = PEOPLE[name]
    return pwd.struct_passwd((name, "x", uid, 100, "", home, "/bin/sh"))


def _stat(path):
    if path == "/stale":
        raise OSError(errno.ESTALE, "stale")
    if path not in OWNERS:
        raise FileNotFoundError(errno.ENOENT, "no")
    return SimpleNamespace(st_uid=OWNERS[path])


ACCOUNTS = [
    (b"JOE", (b"joe", b"", b"")),
    (b"Joe-Ext-B", (b"joe", b"-", b"Ext-B")),
    (b"joe-work-x", (b"joe-work", b"-", b"x")),  # the longest prefix
    (b"joe-", (b"joe", b"-", b"")),
    (b"joey", (b"alias", b"-", b"joey")),
    (b"toor", (b"alias", b"-", b"toor")),  # never root
    (b"Gone-X", (b"alias", b"-", b"Gone-X")),  # no home
    (b"guest", (b"alias", b"-", b"guest")),  # somebody else's home
    (b"x" * 31 + b"-e", (b"x" * 31, b"-", b"e")),
    (b"y" * 32, (b"alias", b"-", b"y" * 32)),  # longer than qmail-getpw looks
    (b"-x", (b"alias", b"-", b"-x")),
]


@pytest.mark.parametrize(("local", "expected"), ACCOUNTS)
def test_an_address_finds_its_account(local, expected):
    found = find_account(local, lookup=_lookup, stat=_stat)
    assert (found.user, found.dash, found.ext) == expected


def test_a_home_that_cannot_be_seen_for_now_defers():
    with pytest.raises(LookupFailed) as failed:
        find_account(b"stale-x", lookup=_lookup, stat=_stat)
    assert failed.value.code == NFS_TROUBLE


def test_without_an_alias_account_mail_waits():
    with pytest.raises(LookupFailed) as failed:
        find_account(b"nobody-here", lookup={}.__getitem__, stat=_stat)
    assert failed.value.code == NO_ALIAS


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (b"Me", (b"me", b"/q", b"", b"")),
        (b"me-Ext", (b"me", b"/q", b"-", b"Ext")),
        (b"meow", (b"alias", b"/q/alias", b"-", b"meow")),
        (b"root", (b"alias", b"/q/alias", b"-", b"root")),
    ],
)
def test_in_single_user_mode_all_mail_stays_in_the_home(local, expected):
    found = single_user_account(local, login=b"me", home=b"/q", uid=1, gid=2)
    assert (found.user, found.home, found.dash, found.ext) == expected
    assert (found.uid, found.gid) == (1, 2)
