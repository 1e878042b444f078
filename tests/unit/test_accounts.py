"""Who is who: single-user homes, classic homes, and giving up rights for good."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from notqmail.unix.accounts import GROUPS, USERS, MissingAccount, accounts_for, become, is_single_user

NOBODY = pwd.getpwnam("nobody")


def test_who_owns_the_queue_is_everybody(tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    home = os.fsencode(tmp_path)
    assert is_single_user(home)
    accounts = accounts_for(home)
    assert accounts.single_user
    assert set(accounts.uids.values()) == {os.geteuid()} and set(accounts.uids) == set(USERS)
    assert set(accounts.gids.values()) == {os.getegid()} and set(accounts.gids) == set(GROUPS)


def test_without_a_queue_a_home_is_a_classic_one(tmp_path: Path) -> None:
    assert not is_single_user(os.fsencode(tmp_path))


@pytest.mark.root
def test_the_account_that_owns_a_classic_queue_is_not_everybody(tmp_path: Path) -> None:
    """`qmail-queue --serve` may be started as qmailq, which is then the queue's owner and still not qmails."""
    (tmp_path / "queue" / "info").mkdir(parents=True)
    home = os.fsencode(tmp_path)
    assert is_single_user(home)
    os.chown(tmp_path / "queue" / "info", NOBODY.pw_uid, NOBODY.pw_gid)
    assert not is_single_user(home)


@pytest.mark.root
def test_a_queue_of_somebody_else_needs_the_classic_accounts(tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    os.chown(tmp_path / "queue", NOBODY.pw_uid, NOBODY.pw_gid)
    home = os.fsencode(tmp_path)
    assert not is_single_user(home)
    try:
        accounts = accounts_for(home)
    except MissingAccount as missing:
        assert str(missing).startswith(("fatal: unable to find user ", "fatal: unable to find group "))
    else:
        assert not accounts.single_user
        assert accounts.uids["owner"] == 0
        assert accounts.uids["queue"] == pwd.getpwnam("qmailq").pw_uid


def run_as_root(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.root
def test_rights_are_given_up_for_good() -> None:
    done = run_as_root(
        f"import os; from notqmail.unix.accounts import become; become({NOBODY.pw_uid}, {NOBODY.pw_gid})\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "try: os.setuid(0)\nexcept PermissionError: print('for good')"
    )
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    assert done.stdout == f"{(uid, uid, uid)} {(gid, gid, gid)} [{gid}]\nfor good\n", done.stderr


@pytest.mark.root
def test_further_groups_are_those_that_were_asked_for() -> None:
    done = run_as_root(
        f"import os; from notqmail.unix.accounts import become; become({NOBODY.pw_uid}, 7, [7, 8])\n"
        "print(sorted(os.getgroups()))"
    )
    assert done.stdout == "[7, 8]\n", done.stderr


@pytest.mark.root
def test_who_is_not_root_cannot_become_somebody_else() -> None:
    done = run_as_root(
        f"from notqmail.unix.accounts import become; become({NOBODY.pw_uid}, {NOBODY.pw_gid})\n"
        f"become({NOBODY.pw_uid}, {NOBODY.pw_gid}); print('already')\n"
        "try: become(1, 1)\nexcept PermissionError: print('refused')"
    )
    assert done.stdout == "already\nrefused\n", done.stderr


def test_becoming_who_we_are_is_nothing() -> None:
    if os.geteuid() != 0:
        before = (os.getresuid(), os.getresgid(), os.getgroups())
        become(os.geteuid(), os.getegid())
        assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
    else:
        become(0, os.getegid(), os.getgroups())
        assert os.geteuid() == 0
