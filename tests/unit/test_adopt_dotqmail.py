"""`notqmail adopt` counts the lines of .qmail files, names those ours carry out otherwise, and does it in bounds."""

import os
import pwd
from pathlib import Path

import pytest

from adopt_homes import NOTQMAIL, lay_home, put
from notqmail.admin import adopt_dotqmail
from notqmail.admin.adopt_dotqmail import look_at_homes, oddities, users_homes
from notqmail.admin.adopt_report import DIFFERS, SAME, UNKNOWN, Report
from notqmail.unix.clock import Clock

PRELINE, QRECEIPT = "runs preline,", "runs qreceipt,"
CASES: list[tuple[bytes, list[str]]] = [
    (b"", []),
    (b"&a@b.test\n./Maildir/\n|cat >/dev/null\n", []),
    (b"|preline procmail\n", [PRELINE]),
    (b"| /var/qmail/bin/preline -f /usr/bin/procmail", [PRELINE]),
    (b"|true&&preline cat; qreceipt joe@b.test\n", [PRELINE, QRECEIPT]),
    (b"|qbiff\n|qbiff\n", ["runs qbiff,"]),
    (b"#|qbiff\n", []),
    (b"preline@b.test\n&qbiff@b.test\n./preline\n", []),
    (b"|spreline x\n|preline.sh\n|my-qbiff\n|qreceipt-2\n", []),
    (b"&a@b.test\0x\n", ["has NUL bytes"]),
    (b"#\0\n&a@b.test\n", []),
    (b"|a\0 preline\n", ["has NUL bytes"]),
    (b"\n|preline x\n", []),  # a blank first line: nothing is carried out
    (b"+list\n|preline x\n", []),
    (b"\xff\xfe|preline\n", []),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_what_ours_carry_out_otherwise(text: bytes, expected: list[str]) -> None:
    got = list(oddities(text))
    assert [one[: len(part)] for one, part in zip(got, expected, strict=True)] == expected


class Ticking(Clock):
    """Each look at it takes a second."""

    def __init__(self) -> None:
        self.told_s = 0.0

    def steady_s(self) -> float:
        self.told_s += 1.0
        return self.told_s


class Standing(Clock):
    """No time passes."""

    def steady_s(self) -> float:
        return 5.0


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of homes, which are all homes there are."""
    people = tmp_path / "people"
    people.mkdir()
    found = lambda _: [os.fsencode(place) for place in sorted(people.iterdir())]  # noqa: E731
    monkeypatch.setattr(adopt_dotqmail, "users_homes", found)
    monkeypatch.setattr(adopt_dotqmail, "is_single_user", lambda _: False)
    return people


def homes(people: Path, names: str) -> None:
    for name in names.split():
        (people / name).mkdir()


def looked(clock: Clock | None = None, seconds: float = 60.0) -> tuple[Report, list[str]]:
    report, told = Report(b"/h"), list[str]()
    look_at_homes(report, b"/h", clock or Standing(), told.append, seconds)
    return report, told


def findings(report: Report, group: str) -> list[tuple[str, str]]:
    return [(one.name, one.text) for one in report.of(group)]


def test_lines_of_all_homes_are_counted_and_odd_files_named(people: Path) -> None:
    homes(people, "ann bob cy")
    put(people / "ann" / ".qmail", "./Maildir/\n|vacation ann\n")
    put(people / "ann" / ".qmail-x", "&bob@mail.test\ncy@mail.test\n")
    put(people / "ann" / ".forward", "|qbiff\n")
    put(people / "bob" / ".qmail", "|preline procmail\n./mbox\n")
    report, told = looked()
    assert findings(report, SAME) == [
        ("3 .qmail files in 2 of 3 homes", "read as by C; lines in them: 2 programs, 2 forwards, 1 mbox, 1 Maildir")
    ]
    ((name, text),) = findings(report, DIFFERS)
    assert name == f"{people}/bob/.qmail"
    assert text == "runs preline, where ours differs in a corner: DIFFERENCES of preline(1)"
    assert (told, findings(report, UNKNOWN)) == ([], [])


def test_where_there_are_none_that_is_said(people: Path) -> None:
    homes(people, "ann")
    assert findings(looked()[0], SAME) == [("0 .qmail files in 0 of 1 home", "there are none")]


def test_only_so_many_files_are_named(people: Path) -> None:
    homes(people, "ann")
    for number in range(25):
        put(people / "ann" / f".qmail-{number:02}", "|preline x\n")
    named = findings(looked()[0], DIFFERS)
    assert len(named) == 21
    assert named[-1] == ("5 more", "of this kind")


def test_what_is_no_plain_file_is_not_opened(people: Path) -> None:
    homes(people, "ann")
    os.mkfifo(people / "ann" / ".qmail")
    (people / "ann" / ".qmail-dir").mkdir()
    (people / "ann" / ".qmail-gone").symlink_to("nowhere")
    (people / "ann" / ".qmail-loop").symlink_to(".qmail-loop")
    (people / "no-directory").write_text("")
    report, _ = looked()
    assert findings(report, SAME) == [("0 .qmail files in 0 of 2 homes", "there are none")]
    assert findings(report, UNKNOWN) == [("1 file or home", "could not be read")], "the loop"


def test_a_big_file_is_read_in_its_beginning_only(people: Path) -> None:
    homes(people, "ann")
    put(people / "ann" / ".qmail", b"|a\n" + b"#" * 200_000 + b"\n|b\n")
    assert "1 program, 0 forwards" in findings(looked()[0], SAME)[0][1]


def test_progress_is_told_and_the_time_has_an_end(people: Path) -> None:
    homes(people, " ".join(f"u{number}" for number in range(20)))
    report, told = looked(Ticking(), 10.0)
    assert told[0] == ".qmail files: 1 of 20 homes looked at"
    assert len(told) == 4
    assert findings(report, UNKNOWN) == [
        ("11 homes", "cannot be seen: after 10 seconds their .qmail files are not looked at any more")
    ]
    assert findings(report, SAME)[0][0] == "0 .qmail files in 0 of 9 homes"


def test_the_homes_are_those_of_the_password_file_and_of_assign_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = lay_home(tmp_path / "h", NOTQMAIL)
    rows = [("root", 0, "/root"), ("ann", 501, "/p/ann"), ("bob", 502, "/p/ann"), ("alias", 503, f"{home}/alias"),
            ("odd", 504, "")]  # fmt: skip
    accounts = [pwd.struct_passwd((name, "x", uid, 1, "", place, "")) for name, uid, place in rows]
    monkeypatch.setattr(pwd, "getpwall", lambda: accounts)
    assert users_homes(bytes(home)) == [b"/p/ann"]
    put(home / "users/assign", "=x:ann:501:501:/p/ann:::\n+v-:v:600:600:/p/lists:-::\n.\n")
    assert users_homes(bytes(home)) == [b"/p/ann", b"/p/lists"]
    put(home / "users/assign", "=x:ann:501\n.\n")
    assert users_homes(bytes(home)) == [b"/p/ann"]


def test_in_a_single_user_home_it_is_the_home_itself(short_path: Path) -> None:
    home = lay_home(short_path / "h", NOTQMAIL)
    put(home / ".qmail-me", "|qreceipt joe@b.test\n")
    report = Report(bytes(home))
    look_at_homes(report, bytes(home), Standing(), lambda _: None)
    assert findings(report, SAME)[0][0] == "1 .qmail file in 1 of 1 home"
    assert findings(report, DIFFERS)[0][0] == f"{home}/.qmail-me"
