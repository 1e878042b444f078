"""`notqmail adopt` without --apply: what it says of three kinds of homes, and that it only looks."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adopt_homes import FLAVOURS, NETQMAIL, NOTQMAIL, PLENTY, QMAIL, lay_home, lay_message, lay_start, put, tree
from notqmail.admin import adopt_dotqmail, main
from notqmail.admin.adopt_control import remarks
from notqmail.admin.adopt_known import FOREIGN, LINE, LIST, MAP, NUMBER, OURS
from notqmail.admin.adopt_queue import why_c_could_not
from notqmail.admin.adopt_report import DIFFERS, SAME, UNKNOWN, YOURS
from notqmail.admin.adopt_services import compiled_variables, memory_limits, rule_variables
from notqmail.admin.launchers import program_names
from notqmail.admin.queue_survey import survey
from notqmail.admin.queue_tree import QueueTree
from notqmail.unix.cdb import build_cdb

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def place(short_path: Path) -> Path:
    """Has room for a home `h` and a root directory `r`."""
    return short_path


def adopt(*arguments: object) -> int:
    return main.main(["adopt", *map(str, arguments)])


def said(place: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    code = adopt(place / "h", "--root", place / "r", "--json", *arguments)
    report: dict[str, object] = json.loads(capsys.readouterr().out)
    assert report["exit"] == code
    return report


def found(report: dict[str, object], group: str, where: str, name: str = "") -> list[str]:
    """The texts of the findings of a group and place, about `name` or all."""
    findings = report["findings"]
    assert isinstance(findings, list)
    return [
        one["text"]
        for one in findings
        if one["group"] == group and where in ("", one["place"]) and name in ("", one["name"])
    ]


# ── whole homes ─────────────────────────────────────────────────────────────────────────────────────────────────────


KINDS = {QMAIL: "looks like qmail 1.03", NETQMAIL: "looks like netqmail", NOTQMAIL: "looks like notqmail (1.08"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_kind_of_home_is_known_and_nothing_in_it_is_changed(
    place: Path, capsys: pytest.CaptureFixture[str], flavour: str
) -> None:
    lay_start(place / "r", lay_home(place / "h", flavour))
    before = tree(place)
    report = said(place, capsys)
    assert str(report["kind"]).startswith(KINDS[flavour])
    assert tree(place) == before


@pytest.mark.parametrize("flavour", [QMAIL, NOTQMAIL])
def test_an_unpatched_home_with_memory_enough_has_nothing_in_the_way(
    place: Path, capsys: pytest.CaptureFixture[str], flavour: str
) -> None:
    lay_start(place / "r", lay_home(place / "h", flavour), PLENTY)
    report = said(place, capsys)
    assert (report["exit"], found(report, YOURS, ""), found(report, UNKNOWN, "")) == (0, [], [])
    counts = report["counts"]
    assert isinstance(counts, dict)
    assert counts[UNKNOWN] == counts[YOURS] == 0
    assert counts[SAME] > 40


def test_a_limit_that_is_too_low_is_named_with_the_number_that_is_enough(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_start(place / "r", lay_home(place / "h", QMAIL))
    report = said(place, capsys)
    script = str(place / "r/service/qmail-smtpd/run")
    assert report["exit"] == 1
    assert found(report, YOURS, "start") == found(report, YOURS, "start", script) == [
        "allows 2000000 bytes of memory, too few for Python: make it 100000000"
    ]  # fmt: skip
    assert found(report, DIFFERS, "start", script) == ["rblsmtpd stays in front, and goes on as it is"]


def test_files_of_patches_are_named_with_the_patch_and_what_becomes_of_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_start(place / "r", lay_home(place / "h", NETQMAIL), PLENTY)
    report = said(place, capsys)
    for name, patch in [
        ("badrcptto", "qregex"), ("validrcptto.cdb", "Simpson"), ("servercert.pem", "TLS"), ("rsa512.pem", "TLS"),
        ("spfbehavior", "SPF"), ("smtpplugins", "qmail-spp"), ("simcontrol", "simscan"), ("authsenders", "AUTH"),
    ]:  # fmt: skip
        (text,) = found(report, YOURS, "control", name)
        assert patch in text, name
    (badrcptto,) = found(report, YOURS, "control", "badrcptto")
    assert badrcptto.endswith("; named by bin/qmail-smtpd")
    assert found(report, UNKNOWN, "control", "zzz-own") != []
    assert found(report, SAME, "control", "locals.rpmnew") != []


def test_a_patched_program_stays_unless_it_is_to_be_taken(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_start(place / "r", lay_home(place / "h", NETQMAIL), PLENTY)
    (text,) = found(said(place, capsys), YOURS, "bin", "qmail-smtpd")
    assert text.startswith("C's, patched (control/badrcptto, control/validrcptto.cdb, TLS, AUTH): stays")
    taken = said(place, capsys, "--take", "qmail-smtpd")
    assert found(taken, SAME, "bin", "qmail-smtpd") == ["C's, ours takes its place"]
    left = said(place, capsys, "--take", "qmail-smtpd", "--leave", "qmail-smtpd")
    assert "bin/qmail-smtpd" not in {one["path"] for one in left["plan"]}  # type: ignore[attr-defined]


def test_no_content_is_shown_and_what_is_closed_is_not_opened(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NETQMAIL)
    lay_start(place / "r", home)
    put(home / "control" / "smtproutes", ":relay.test:587|joe|hush-hush\n")
    for name in ("servercert.pem", "authsenders", "passwords", "zzz-own"):
        (home / "control" / name).unlink(missing_ok=True)
        os.mkfifo(home / "control" / name)  # whoever opened it to read would wait for ever
    adopt(home, "--root", place / "r")
    text = capsys.readouterr().out
    assert "1 route has a name and a password" in text
    assert "hush-hush" not in text
    assert "joe" not in text


def test_links_that_lead_out_are_followed_and_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    (home / "control").rename(place / "etc-qmail")
    (home / "control").symlink_to(place / "etc-qmail")
    (home / "control" / "locals").rename(place / "my-locals")
    (home / "control" / "locals").symlink_to(place / "my-locals")
    (home / "queue").rename(place / "spool")
    (home / "queue").symlink_to(place / "spool")
    report = said(place, capsys)
    assert found(report, DIFFERS, "control", ".") == [f"is a symbolic link to {place}/etc-qmail: followed"]
    assert found(report, DIFFERS, "control", "locals")[0] == f"is a symbolic link to {place}/my-locals: followed"
    assert found(report, DIFFERS, "queue", ".") == [f"is a symbolic link to {place}/spool: followed"]


def test_what_is_no_home_is_exit_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adopt(place) == 2
    assert capsys.readouterr().err == f"notqmail: {place} is no qmail home: no bin in it\n"


def test_what_cannot_be_looked_at_is_exit_111_and_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    (home / "alias").rename(place / "gone")
    report = said(place, capsys)
    assert report["exit"] == 111
    assert found(report, UNKNOWN, "alias") == ["could not be looked at: No such file or directory"]
    assert adopt(home, "--root", place / "r", "--apply") == 111
    assert "nothing was changed" in capsys.readouterr().err
    assert not (home / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_closed_program_is_named_with_who_may(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    (home / "bin" / "qmail-send").chmod(0o111)
    assert adopt(home) == 111
    assert capsys.readouterr().err == f"notqmail: {home}/bin/qmail-send: Permission denied (root may)\n"


# ── bin/ ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_somebody_s_own_programs_stay_and_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    (home / "bin" / "qmail-queue").unlink()
    (home / "bin" / "qmail-queue").symlink_to("simscan")
    put(home / "bin" / "qmail-remote", "#!/bin/sh\nexec signer qmail-remote.c\n", 0o755)
    put(home / "bin" / "strange", b"\x7fELF", 0o4755)
    put(home / "bin" / "qreceipt", b"\x7fELF", 0o6755)
    (home / "bin").chmod(0o777)
    report = said(place, capsys)
    assert found(report, DIFFERS, "bin", "qmail-queue")[0].startswith("is somebody's link to simscan: stays")
    assert found(report, DIFFERS, "bin", "qmail-remote")[0].startswith("is somebody's script: stays")
    assert found(report, UNKNOWN, "bin", "strange") == ["compiled (4755) that we do not know; stays"]
    assert found(report, YOURS, "bin", "qreceipt") == ["6755, which no qmail has: find out who did this"]
    assert found(report, YOURS, "bin", ".")[0].startswith("others than its owner can write there")
    planned = {one["path"] for one in report["plan"]}  # type: ignore[attr-defined]
    assert not planned & {"bin/qmail-queue", "bin/qmail-remote", "bin/strange"}


def test_programs_that_speak_to_one_another_stay_together(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A patched qmail-send may number deliveries otherwise than our spawners do."""
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    put(home / "bin" / "qmail-send", b"\x7fELFcontrol/bouncemaxbytes\0QMAILQUEUE", 0o711)
    report = said(place, capsys)
    planned = {one["path"] for one in report["plan"]}  # type: ignore[attr-defined]
    core = {f"bin/qmail-{name}" for name in ("start", "send", "lspawn", "rspawn", "clean")}
    assert planned & core == set()
    assert found(report, DIFFERS, "bin", "qmail-clean") == ["C's: stays with qmail-send, to which it speaks"]
    assert "run `qmail-queue --serve`" in found(report, YOURS, "bin", "qmail-start")[0]
    kept = said(place, capsys, "--leave", "qmail-queue")
    assert found(kept, YOURS, "bin", "qmail-start") == []


def test_two_programs_of_one_name_are_left_for_a_person(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    put(home / "bin" / "forward.before-python", b"\x7fELF another")
    report = said(place, capsys)
    assert "are two programs" in found(report, YOURS, "bin", "forward")[0]
    assert "bin/forward" not in {one["path"] for one in report["plan"]}  # type: ignore[attr-defined]


@contextmanager
def listening(lock: Path) -> Iterator[None]:
    """What is to be seen of a qmail-send: it holds the lock, and listens at the trigger."""
    trigger = os.open(lock / "trigger", os.O_RDONLY | os.O_NONBLOCK) if (lock / "trigger").exists() else -1
    try:
        with (lock / "sendmutex").open("ab") as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            yield
    finally:
        if trigger >= 0:
            os.close(trigger)


def test_without_a_trigger_the_lock_tells_whether_qmail_send_runs(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    (home / "queue/lock/trigger").unlink()
    running = "qmail-send is running"
    assert not any(text.startswith(running) for text in found(said(place, capsys), YOURS, "queue"))
    with listening(home / "queue/lock"):
        assert any(text.startswith(running) for text in found(said(place, capsys), YOURS, "queue"))


# ── the queue ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_are_counted_by_their_state(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    queue = home / "queue"
    lay_message(queue, "x", sender="a@b.test", todo=["c@mail.test"], intd=True)
    lay_message(queue, "x", sender="a@b.test", local="Tc@mail.test ")
    lay_message(queue, "x", sender="a@b.test", remote="Dc@d.test Te@d.test ", bounce="<c@d.test>:\nno\n\n")
    report = said(place, capsys)
    assert report["exit"] == 0
    for name in ("1 message in S4", "2 messages in S5", "1 bounce"):
        assert len(found(report, SAME, "queue", name)) == 1


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("empty info", "it is empty: neither C nor ours can read it. Somebody has to look at it"),
        ("copied", ": stop mail, and `notqmail queue check --repair`"),
        ("interrupted", "a repair of the queue was interrupted: stop mail, and `notqmail queue check --repair`"),
        ("layout", "`notqmail queue split 23` brings it"),
    ],
)
def test_what_undo_would_refuse_for_apply_refuses_for_too(
    place: Path, capsys: pytest.CaptureFixture[str], damage: str, text: str
) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    number = lay_message(home / "queue", "x", sender="a@b.test", local="Tc@mail.test ")
    mess = home / "queue/mess" / str(number % 23) / str(number)
    if damage == "empty info":
        put(home / "queue/info" / str(number % 23) / str(number), b"", 0o600)
    elif damage == "copied":
        put(mess.with_name("copy"), mess.read_bytes())
        mess.with_name("copy").rename(mess)
    elif damage == "interrupted":
        mess.rename(home / "queue/mess" / f"{number}.moving")
    else:
        (home / "queue/mess/23").mkdir()
    before = tree(home)
    report = said(place, capsys)
    assert [one for one in found(report, YOURS, "queue") if text in one] != []
    assert adopt(home, "--root", place / "r", "--apply") == 1
    assert "--apply refuses, for 1 of these:" in capsys.readouterr().out
    assert tree(home) == before
    put(home / "adopted.json", '{"programs": [], "made": []}')
    assert adopt(home, "--undo") == 1
    assert text in capsys.readouterr().err


def test_a_half_preprocessed_message_is_in_nobody_s_way(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    number = lay_message(home / "queue", "x", sender="a@b.test", todo=["c@mail.test"])
    put(home / "queue/local" / str(number % 23) / str(number), "Tc@mai", 0o600)
    put(home / "queue/info" / str(number % 23) / str(number), "", 0o600)
    assert said(place, capsys)["exit"] == 0
    assert why_c_could_not(survey(QueueTree(bytes(home / "queue")))) == []
    put(home / "queue/todo" / str(number), "u1\0p2\0")
    assert said(place, capsys)["exit"] == 1
    (reason,) = why_c_could_not(survey(QueueTree(bytes(home / "queue"))))
    assert reason.startswith(f"todo/{number}: it has no sender: neither C nor ours can read it.")


def test_an_alias_of_the_single_user_s_own_name_is_not_missed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    (home / "alias/.qmail-default").unlink()
    (home / "alias/.qmail-root").unlink()
    monkeypatch.setattr(adopt_dotqmail, "_own_name", lambda: "root")
    assert found(said(place, capsys), YOURS, "alias") == []
    monkeypatch.setattr(adopt_dotqmail, "_own_name", lambda: "joe")
    assert found(said(place, capsys), YOURS, "alias", ".qmail-root") == ["is missing: mail for it bounces, as under C"]


def test_a_running_qmail_send_is_named_and_nothing_is_applied(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    before = tree(home)
    with listening(home / "queue/lock"):
        assert found(said(place, capsys), YOURS, "queue")[0].startswith("qmail-send is running: stop it as you always")
        assert adopt(home, "--root", place / "r", "--apply") == 1
        assert adopt(home, "--undo") == 1
        assert "qmail-send is running" in capsys.readouterr().err
    assert tree(home) == before


@pytest.mark.parametrize("made", ["mess/23", "todo/0"])
def test_another_layout_of_the_queue_is_in_the_way(place: Path, capsys: pytest.CaptureFixture[str], made: str) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    (home / "queue" / made).mkdir()
    (text,) = found(said(place, capsys), YOURS, "queue")
    assert "`notqmail queue split 23`" in text
    assert adopt(home, "--root", place / "r", "--apply") == 1
    assert not (home / "run").exists()


@pytest.mark.root
def test_accounts_of_other_names_are_in_the_way(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    os.chown(home / "queue", 40_004, -1)
    findings = said(place, capsys)["findings"]
    assert isinstance(findings, list)
    blocking = [one for one in findings if one["place"] == "queue" and one["blocks"]]
    assert blocking
    assert re.search("unable to find (user|group)|belongs to", blocking[0]["text"])


# ── rules, users, alias ─────────────────────────────────────────────────────────────────────────────────────────────


def test_variables_of_rules_and_envdirs_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", QMAIL)
    root = lay_start(place / "r", home, PLENTY)
    put(
        root / "etc/tcp.smtp",
        '10.:allow,RELAYCLIENT="",QMAILQUEUE="bin/scan"\n1.:allow,RBLSMTPD="-no"\n:allow,MINE="x"\n',
    )
    (root / "service/qmail-smtpd/env").mkdir()
    put(root / "service/qmail-smtpd/env/RCPTCHECK", "hush-hush")
    report = said(place, capsys)
    rules = root / "etc/tcp.smtp"
    assert found(report, SAME, "rules", f"{rules} sets RELAYCLIENT") == ["read as by C"]
    assert found(report, SAME, "rules", f"{rules} sets QMAILQUEUE to bin/scan") == ["the program runs as under C"]
    assert "from now on that program runs" in found(report, YOURS, "rules", str(rules))[0], "1.03 did not know it"
    assert len(found(report, UNKNOWN, "rules", f"{rules} sets MINE")) == 1
    assert len(found(report, YOURS, "start", f"{root}/service/qmail-smtpd/env sets RCPTCHECK")) == 1


def test_users_and_alias(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = lay_home(place / "h", NOTQMAIL)
    lay_start(place / "r", home, PLENTY)
    put(home / "users" / "assign", ".\n")
    put(home / "users" / "odd", "")
    put(home / "users" / "recipients.cdb", "")
    put(home / "alias" / ".qmail-list", "|ezmlm-send dir\n&a@b.test\n# no\n./x/\n./y\n", 0o666)
    for name in (".qmail-default", ".qmail-postmaster"):
        (home / "alias" / name).unlink()
    report = said(place, capsys)
    assert found(report, YOURS, "users", "assign")[0].startswith("was never compiled")
    assert len(found(report, UNKNOWN, "users", "odd")) == 1
    assert len(found(report, YOURS, "users", "recipients.cdb")) == 1
    assert found(report, SAME, "alias", "3 .qmail files") == [
        "read as by C; lines in them: 1 program, 3 forwards, 1 mbox, 1 Maildir"
    ]
    assert found(report, YOURS, "alias", ".qmail-list")[0].startswith("anybody can write it")
    assert found(report, YOURS, "alias", ".qmail-postmaster") == ["is missing: mail for it bounces, as under C"]


# ── texts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "form", "data", "expected"),
    [
        ("me", LINE, b"mail.test\n", []),
        ("me", LINE, b"", []),
        ("me", LINE, b"mail.test", [(SAME, "no line feed")]),
        ("me", LINE, b"mail.test\r\n", [(YOURS, "1 line ends in CR LF")]),
        ("me", LINE, b" mail.test\n", [(YOURS, "begins with a blank")]),
        ("me", LINE, b"a\nb\n", [(SAME, "more than one line")]),
        ("me", LINE, b"\xef\xbb\xbfa\n", [(YOURS, "byte order mark")]),
        ("locals", LIST, b"a\0b\n", [(DIFFERS, "NUL")]),
        ("locals", LIST, b"a\r\nb\r", [(YOURS, "2 lines end in CR LF"), (SAME, "no line feed")]),
        ("locals", LIST, b"#a\n\n \t\nb \n", []),
        ("locals", LIST, b"\ta\n", [(YOURS, "begin with a blank")]),
        ("databytes", NUMBER, b"10\n", []),
        ("databytes", NUMBER, b"10 MB\r\n", []),
        ("databytes", NUMBER, b"2147483647\n", []),
        ("databytes", NUMBER, b"2147483648\n", [(DIFFERS, "ours reads 2147483648; C keeps 32 bits")]),
        ("databytes", NUMBER, b"9" * 400 + b"\n", [(DIFFERS, "C keeps 32 bits")]),
        ("databytes", NUMBER, b"", [(YOURS, "does not begin with a digit")]),
        ("databytes", NUMBER, b" 5\n", [(YOURS, "does not begin with a digit")]),
        ("databytes", NUMBER, b"-1\n", [(YOURS, "does not begin with a digit")]),
        ("concurrencyremote", NUMBER, b"120\n", []),
        ("concurrencyremote", NUMBER, b"500\n", [(DIFFERS, "500: C cuts it to conf-spawn, 120")]),
        ("doublebounceto", LINE, b"\n", [(YOURS, "doublebounce-trim")]),
        ("smtproutes", MAP, b":relay.test\n", []),
        ("smtproutes", MAP, b"relay.test\n", [(SAME, "1 line has no colon")]),
        ("smtproutes", MAP, b":relay.test:587|a|b\n", [(YOURS, "1 route has a name and a password")]),
        ("smtproutes", MAP, b":relay.test;587\n", [(YOURS, "semicolon")]),
        ("badmailfrom", LIST, b"a@b.test\n@c.test\n", []),
        ("badmailfrom", LIST, b"^.*@b\\.test$\n", [(YOURS, "patterns")]),
    ],
)  # fmt: skip
def test_what_is_odd_about_a_control_file(name: str, form: str, data: bytes, expected: list[tuple[str, str]]) -> None:
    got = list(remarks(name, form, data))
    assert [group for group, _ in got] == [group for group, _ in expected]
    assert all(part in text for (_, text), (_, part) in zip(got, expected, strict=True))


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (b"exec softlimit -m 20000000 tcpserver", [20_000_000]),
        (b"exec softlimit -a5000000 -s 1 -o 100 prog", [5_000_000]),
        (b"softlimit -d 1 -m 2 prog", [1, 2]),
        (b"exec chpst -u qmaild -m 30000000 tcpserver", []),
        (b"exec chpst -m 30000000 tcpserver", [30_000_000]),
        (b"exec softlimit \\\n  -m 7 \\\n tcpserver", [7]),
        (b"# softlimit -m 20000000\nexec prog", []),
        (b"ulimit -v 20000; exec prog", [20_480_000]),
        (b"ulimit -n 20000; exec prog", []),
        (b"[Service]\nLimitAS=64M\nMemoryMax=infinity\n", [67_108_864]),
        (b"softlimit -m", []),
        (b"softlimit -m " + b"9" * 100, [10**20 - 1]),
    ],
)
def test_limits_of_memory(text: bytes, limits: list[int]) -> None:
    assert memory_limits(text) == limits


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (b"", {}),
        (b":allow\n", {}),
        (b'# 1.:allow,A="b"\n', {}),
        (b'1.:allow,A="b",C=/d e/\n2.:allow,A="x"\n', {"A": {b"b", b"x"}, "C": {b"d e"}}),
        (b'1.:allow,A="b,C=1"\n', {"A": {b"b,C=1"}}),
        (b'1.:deny,A="b"\n', {}),
        (b"1.:allow,A\n", {}),
        (b"1.:allow,A=\n", {}),
        (b'1.:allow,A="b\n', {"A": {b"b"}}),
        (b'1.:allow,A="b"x\n', {"A": {b"b"}}),
        (b"no rule at all\n", {}),
    ],
)
def test_variables_of_rules(text: bytes, variables: dict[str, set[bytes]]) -> None:
    assert rule_variables(text) == variables


def test_variables_of_compiled_rules() -> None:
    data = build_cdb([(b"1.", b"+RELAYCLIENT=\0+QMAILQUEUE=bin/x\0"), (b"", b""), (b"2.", b"D")])
    assert compiled_variables(data) == {"RELAYCLIENT": {b""}, "QMAILQUEUE": {b"bin/x"}}
    assert compiled_variables(data[:-1]) == compiled_variables(data)
    assert compiled_variables(b"") == {}


# ── the tables ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_our_control_files_is_that_of_the_manual() -> None:
    page = (REPOSITORY / "man" / "qmail-control.5").read_text()
    table = page.partition("file\tform")[2].partition(".TE")[0]
    named = {line.partition("\t")[0] for line in table.splitlines()[1:] if "\t" in line}
    assert len(named) > 25, "the pattern no longer finds the table"
    assert named - OURS.keys() == set()


def test_no_file_is_ours_and_somebody_else_s() -> None:
    assert OURS.keys() & FOREIGN.keys() == set()


def test_every_program_of_ours_is_offered() -> None:
    with pytest.raises(SystemExit) as leaving:
        adopt("--leave", "nonsense", "/h")
    assert leaving.value.code == 2
    assert "qmail-smtpd" in program_names()
