"""`notqmail init`: what a new home has, and what an old one keeps."""

import os
import pwd
import stat
from pathlib import Path

import pytest

from notqmail.admin import new_home
from notqmail.admin.settings import DEFAULT_HOST, control_files, domains_of, relay_rules
from notqmail.unix.cdb import Cdb

ME = pwd.getpwuid(os.geteuid()).pw_name


def make(home: Path, host: bytes = DEFAULT_HOST) -> list[str]:
    return new_home.make_home(bytes(home), host=host, classic=False)


def snapshot(home: Path) -> dict[str, bytes]:
    files = (path for path in home.rglob("*") if path.is_file())
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


def test_a_new_home_is_complete(short_path: Path) -> None:
    home = short_path / "a" / "home"
    assert make(home) == []
    names = {path.name for path in home.iterdir()}
    assert names == {"Maildir", "alias", "bin", "control", "queue", "run", "users"}
    assert stat.S_IMODE((home / "Maildir" / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert stat.S_ISFIFO((home / "queue" / "lock" / "trigger").stat().st_mode)


def test_the_umask_does_not_matter(short_path: Path) -> None:
    old = os.umask(0o077)
    try:
        make(short_path / "h")
    finally:
        os.umask(old)
    assert stat.S_IMODE((short_path / "h" / "control" / "me").stat().st_mode) == 0o644
    assert stat.S_IMODE((short_path / "h" / "bin").stat().st_mode) == 0o755


class Stopped(Exception):
    """The process was killed here."""


@pytest.mark.parametrize("step", range(10))
def test_stopped_while_a_directory_is_made_the_next_try_gives_it_its_mode(
    short_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there then, with the mode that the umask left: for qmail-queue's `run`, or alias, too few rights."""
    real, calls = os.chmod, iter(range(100))

    def stopping(path: bytes, mode: int) -> None:
        if next(calls) == step:
            raise Stopped
        real(path, mode)

    monkeypatch.setattr(new_home.launchers, "compile_package", lambda: None)
    old = os.umask(0o077)
    try:
        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(new_home.os, "chmod", stopping)
            make(short_path / "h")
        make(short_path / "h")
    finally:
        os.umask(old)
    modes = {
        name: stat.S_IMODE((short_path / "h" / name).stat().st_mode) for name in ("bin", "run", "alias", "Maildir")
    }
    assert modes == {"bin": 0o755, "run": 0o755, "alias": 0o2755, "Maildir": 0o700}
    assert not [path for path in short_path.rglob("*.python-new") if path.is_dir()]


def test_running_it_again_changes_nothing_a_person_wrote(short_path: Path) -> None:
    home = short_path / "h"
    make(home)
    (home / "control" / "me").write_text("mine.example\n")
    (home / "control" / "tcp.smtp").write_text(":deny\n")
    (home / "control" / "tcp.smtp.cdb").unlink()
    (home / "alias" / ".qmail-mailer-daemon").write_text("#\n")
    (home / "Maildir" / "new" / "1").write_text("mail")
    before = snapshot(home)
    make(home, b"other.example")
    assert snapshot(home) == before


def test_a_site_s_own_program_in_bin_is_left_alone_and_named(short_path: Path) -> None:
    home = short_path / "h"
    make(home)
    (home / "bin" / "qmail-queue").write_text("#!/bin/sh\n# scans for viruses\n")
    (notice,) = make(home)
    assert "qmail-queue" in notice
    assert "viruses" in (home / "bin" / "qmail-queue").read_text()


def test_what_the_accounts_could_not_use_is_noticed_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    code.mkdir(mode=0o777)
    code.chmod(0o777)
    monkeypatch.setattr(new_home.launchers, "code_directories", lambda: [str(code)])
    assert any(notice.startswith(f"{code} can be written by others") for notice in new_home.code_notices())
    code.chmod(0o700)
    assert any(notice.startswith(f"{code} cannot be reached") for notice in new_home.code_notices())


@pytest.mark.parametrize("host", [b"", b"two words", b"line\nfeed", b"nul\0", b"sla/sh"])
def test_what_is_no_host_name_is_refused(short_path: Path, host: bytes) -> None:
    with pytest.raises(new_home.CannotMake):
        make(short_path / "h", host)
    assert not (short_path / "h").exists()


def test_a_home_too_deep_for_a_socket_is_refused_in_words(short_path: Path) -> None:
    with pytest.raises(new_home.CannotMake, match="too long"):
        make(short_path / ("d" * 100))


def test_postmaster_reaches_the_owner_of_a_single_user_home(short_path: Path) -> None:
    make(short_path / "h")
    assert (short_path / "h" / "alias" / ".qmail-postmaster").read_text() == f"&{ME}\n"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"mail.example.org", (b"example.org", b"example.org")),
        (b"a.b.example.org", (b"b.example.org", b"example.org")),
        (b"example.org", (b"org", b"example.org")),  # as config-fast does it: the label after the first dot
        (b"single", (b"single", b"single")),
    ],
)
def test_domains_are_chosen_as_config_fast_does(host: bytes, expected: tuple[bytes, bytes]) -> None:
    assert domains_of(host) == expected


def test_only_this_host_is_accepted_for_so_nothing_is_relayed_for_strangers() -> None:
    files = control_files(b"mail.example.org")
    assert files["rcpthosts"] == files["locals"] == b"localhost\nlocalhost.example.org\nmail.example.org\n"


def test_the_relay_rules_let_this_machine_relay_and_nobody_else(tmp_path: Path) -> None:
    text, cdb = relay_rules()
    assert text.endswith(b'127.:allow,RELAYCLIENT=""\n:allow\n')
    (tmp_path / "cdb").write_bytes(cdb)
    with Cdb(bytes(tmp_path / "cdb")) as rules:
        assert rules.get(b"127.") == b"+RELAYCLIENT=\0"
        assert rules.get(b"") == b""


@pytest.mark.root
def test_a_classic_home_has_the_owners_of_the_accounts(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from notqmail.unix.accounts import GROUPS, USERS, Accounts

    uids = {role: 40_000 + number for number, role in enumerate(USERS)}
    uids["owner"] = 0
    gids = {role: 50_000 + number for number, role in enumerate(GROUPS)}
    monkeypatch.setattr(new_home, "accounts_for", lambda _home: Accounts(False, uids, gids))
    home = short_path / "h"
    new_home.make_home(bytes(home), host=b"mail.example.org", classic=True)
    owners = {
        name: (home.joinpath(name).stat().st_uid, home.joinpath(name).stat().st_gid)
        for name in ("bin", "alias", "queue", "queue/info/3", "queue/lock/tcpto", "run")
    }
    assert owners == {
        "bin": (0, gids["queue"]),
        "alias": (uids["alias"], gids["queue"]),
        "queue": (uids["queue"], gids["queue"]),
        "queue/info/3": (uids["send"], gids["queue"]),
        "queue/lock/tcpto": (uids["remote"], gids["queue"]),
        "run": (uids["queue"], gids["queue"]),
    }
    assert stat.S_IMODE((home / "alias").stat().st_mode) == 0o2755
    assert not (home / "Maildir").exists()


@pytest.mark.root
def test_a_classic_home_is_completed_as_one_even_when_not_said(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from notqmail.unix.accounts import MissingAccount

    (short_path / "h" / "queue").mkdir(parents=True)
    os.chown(short_path / "h" / "queue", 40_004, 50_000)

    def none_there(_home: bytes) -> None:
        raise MissingAccount("fatal: unable to find user alias")

    monkeypatch.setattr(new_home, "accounts_for", none_there)
    with pytest.raises(MissingAccount):
        make(short_path / "h")
