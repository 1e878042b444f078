"""`notqmail adopt` finds out which character parts user and extension in a home, and leaves what depends on it."""

import os
import pwd
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adopt_homes import NETQMAIL, lay_home, lay_start, put
from notqmail.admin.adopt_break import OTHER, CannotTell, a_user, ask, break_character, break_of_home
from notqmail.admin.adopt_programs import BREAK, LEAVE, TAKE, Bin, look_at_bin
from notqmail.admin.adopt_report import DIFFERS, YOURS, Report
from notqmail.deliver.users import find_account

JOE = pwd.struct_passwd(("joe", "x", 501, 501, "", "/home/joe", "/bin/sh"))
ALIAS = pwd.struct_passwd(("alias", "x", 500, 500, "", "/q/alias", "/bin/sh"))


def getpw(character: bytes) -> Callable[[bytes], bytes]:
    """What C's qmail-getpw prints where it was compiled with that character."""

    def asked(local: bytes) -> bytes:
        user, found, extension = local.partition(character) if character else (local, b"", b"")
        if user == b"joe" and found:
            return b"joe\x00501\x00501\x00/home/joe\0-\0%b\0" % extension
        return b"alias\x00500\x00500\x00/q/alias\0-\0%b\0" % local

    return asked


@pytest.mark.parametrize(
    ("compiled", "seen"), [(b"-", b"-"), (b"+", b"+"), (b"=", b"="), (b"|", b"|"), (b"", OTHER), (b"\xe4", OTHER)]
)
def test_the_character_is_the_one_behind_which_qmail_getpw_sees_an_extension(compiled: bytes, seen: bytes) -> None:
    assert break_character(getpw(compiled), b"joe") == seen


def test_ours_answers_as_c_does_with_a_dash() -> None:
    accounts = {"joe": JOE, "alias": ALIAS}

    def owned(path: str) -> os.stat_result:
        return os.stat_result((0, 0, 0, 0, 501 if path == "/home/joe" else 500, 0, 0, 0, 0, 0))

    def asked(local: bytes) -> bytes:
        return find_account(local, lookup=accounts.__getitem__, stat=owned).encode()

    assert break_character(asked, b"joe") == b"-"
    assert break_character(asked, b"alias") == b"-", "its fallback has another extension"


@pytest.mark.parametrize("answer", [b"", b"joe\n", b"joe\0" * 5, b"joe\0" * 7, b"joe\x001\x001\0/h\0-\0xyzzy"])
def test_an_answer_of_another_form_tells_nothing(answer: bytes) -> None:
    with pytest.raises(CannotTell, match="another form"):
        break_character(lambda _: answer, b"joe")


def test_who_is_asked_for_has_a_home_of_his_own_and_a_plain_name(tmp_path: Path) -> None:
    uid = tmp_path.stat().st_uid
    own, root, stranger, odd, gone, alias = (
        pwd.struct_passwd((name, "x", number, 1, "", home, ""))
        for name, number, home in [
            ("own", uid, str(tmp_path)), ("toor", 0, str(tmp_path)), ("far", uid + 1, str(tmp_path)),
            ("o-d+d", uid, str(tmp_path)), ("gone", uid, f"{tmp_path}/gone"), ("alias", uid, str(tmp_path)),
        ]
    )  # fmt: skip
    if uid:
        assert a_user([root, stranger, odd, gone, own]) == b"own"
        assert a_user([own, alias]) == b"alias"
    with pytest.raises(CannotTell, match="no user"):
        a_user([root, stranger, odd, gone])


# ── asking a program ────────────────────────────────────────────────────────────────────────────────────────────────


def program(directory: Path, text: str) -> bytes:
    put(directory / "qmail-getpw", f"#!/bin/sh\n{text}\n", 0o755)
    return bytes(directory / "qmail-getpw")


def test_a_program_is_asked_with_the_address_alone_and_an_empty_environment(tmp_path: Path) -> None:
    text = 'printf \'%s,%s,%s,\' "$1" $# "$QMAILHOME$HOME"; pwd; cat'
    assert ask(program(tmp_path, text), b"joe-x", None) == b"joe-x,1,,/\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 111", r"fails \(111\)"),
        ("printf a; kill -9 $$", r"fails \(-9\)"),
        ("while :; do echo too much of it, again and again; done", "no end of an answer"),
        ("exec sleep 1000", "no end of an answer"),
        ("exec >&-; exec sleep 1000", "no end of an answer"),
    ],
)
def test_a_program_that_fails_hangs_or_babbles_tells_nothing_and_is_ended(tmp_path: Path, text: str, why: str) -> None:
    begin_s = time.monotonic()
    with pytest.raises(CannotTell, match=why):
        ask(program(tmp_path, f"echo $$ >{tmp_path}/pid\n{text}"), b"joe-x", None, 1.0)
    assert time.monotonic() - begin_s < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)


def test_a_program_that_cannot_be_run_tells_nothing(tmp_path: Path) -> None:
    put(tmp_path / "qmail-getpw", b"\x7fELF and no more", 0o755)
    with pytest.raises(CannotTell, match="cannot be run"):
        ask(bytes(tmp_path / "qmail-getpw"), b"joe-x", None)


def test_where_everything_is_one_user_s_nobody_is_asked(short_path: Path) -> None:
    home = lay_home(short_path / "h", NETQMAIL)
    assert break_of_home(bytes(home), Bin(bytes(home))) is None


@pytest.mark.root
def test_a_program_that_others_can_change_is_not_run_as_root(short_path: Path) -> None:
    home = lay_home(short_path / "h", NETQMAIL)
    os.chown(home / "queue" / "info", 40_004, -1)  # no home of root's own
    (home / "bin" / "qmail-getpw").chmod(0o777)
    with pytest.raises(CannotTell, match="others than root"):
        break_of_home(bytes(home), Bin(bytes(home)))


# ── what becomes of the programs ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("character", "shown"), [(b"+", "+"), (OTHER, "none of the usual characters")])
def test_with_another_character_c_s_programs_that_know_it_stay(short_path: Path, character: bytes, shown: str) -> None:
    home = lay_home(short_path / "h", NETQMAIL)
    lay_start(short_path / "r", home)
    found = Bin(bytes(home))
    assert {found.programs[name].fate for name in BREAK} == {TAKE}
    found.heed_break(character)
    assert {found.programs[name].fate for name in BREAK} == {LEAVE}
    assert found.programs["qmail-local"].fate == TAKE
    report = Report(bytes(home))
    look_at_bin(report, found)
    texts = {one.name: one.text for one in report.of(DIFFERS) if one.name in BREAK}
    assert set(texts) == set(BREAK)
    assert all(f"by {shown}, ours by -: stays" in text for text in texts.values())


def test_who_takes_them_all_the_same_is_told_what_it_means(short_path: Path) -> None:
    home = lay_home(short_path / "h", NETQMAIL)
    found = Bin(bytes(home), take=["qmail-getpw"])
    found.heed_break(b"+")
    assert [found.programs[name].fate for name in BREAK] == [TAKE, LEAVE]
    report = Report(bytes(home))
    look_at_bin(report, found)
    (text,) = [one.text for one in report.of(YOURS) if one.name == "qmail-getpw"]
    assert text.endswith("mail for extensions goes elsewhere")


def test_with_the_dash_nothing_stays(short_path: Path) -> None:
    found = Bin(bytes(lay_home(short_path / "h", NETQMAIL)))
    found.heed_break(b"-")
    assert {found.programs[name].fate for name in BREAK} == {TAKE}
