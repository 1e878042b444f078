"""qmail-showctl: each file's sentence, for a file that is missing, there, odd or unreadable; as in notqmail 1.09."""

import os
from pathlib import Path

import pytest

from notqmail.admin.showctl import FORBIDDEN_MODE, CannotShow, report
from notqmail.deliver import local_plan
from notqmail.unix.accounts import Accounts
from notqmail.unix.controls import control_reader

UIDS = {"alias": 1, "daemon": 2, "log": 3, "owner": 0, "password": 4, "queue": 5, "remote": 6, "send": 7}
ACCOUNTS = Accounts(False, UIDS, {"queue": 11, "nofiles": 12})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    return tmp_path


def shown(home: Path) -> bytes:
    return b"".join(report(bytes(home), ACCOUNTS, control_reader(bytes(home))))


def paragraph(home: Path, name: str) -> bytes:
    """What is said of one file, without its name."""
    start = b"\n" + name.encode() + b": "
    (text,) = [part for part in shown(home).split(b"\n\n") if (b"\n" + part).startswith(start)]
    return text.removeprefix(start[1:]).removesuffix(b"\n")


def test_the_head_says_what_c_compiles_in(home: Path) -> None:
    assert shown(home).split(b"\n\n")[0] == (
        b"qmail home directory: %b.\nuser-ext delimiter: -.\npaternalism (in decimal): 2.\n"
        b"silent concurrency limit: 120.\nsubdirectory split: 23.\nuser ids: 1, 2, 3, 0, 4, 5, 6, 7.\n"
        b"group ids: 12, 11." % bytes(home)
    )


def test_paternalism_is_what_qmail_local_looks_at() -> None:
    assert FORBIDDEN_MODE == local_plan.FORBIDDEN_MODE


def test_the_files_are_told_in_c_s_order(home: Path) -> None:
    names = [part.split(b":")[0].decode() for part in shown(home).split(b"\n\n")[1:]]
    before = [name for name in names if name < "morercpthosts" or name.startswith(("p", "q"))]
    assert sorted(before) == [name for name in before if name != "rcpthosts"], "in the order of the alphabet"
    assert names[20:23] == ["rcpthosts", "morercpthosts", "morercpthosts.cdb"]
    assert names[23:] == [
        "smtpgreeting", "smtproutes", "timeoutconnect", "timeoutremote", "timeoutsmtpd", "virtualdomains",
    ]  # fmt: skip
    assert len(names) == 29


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("bouncefrom", None, b"(Default.) Bounce user name is MAILER-DAEMON."),
        ("bouncefrom", b"joe \t\nsecond\n", b"Bounce user name is joe."),
        ("bouncefrom", b"", b"Bounce user name is ."),
        ("bouncefrom", b" a\r\n", b"Bounce user name is  a?."),
        ("bouncehost", None, b"(Default.) Bounce host name is bouncehost."),
        ("smtpgreeting", b"h\xe9 \x01\x7f~\n", b"SMTP greeting: 220 h? ??~."),
        ("me", None, b"(Default.) My name is undefined! Uh-oh."),
        ("concurrencylocal", None, b"(Default.) Local concurrency is 10."),
        ("concurrencylocal", b"7x\n", b"Local concurrency is 7."),
        ("concurrencylocal", b"x7\n", b"(Default.) Local concurrency is 10."),
        ("concurrencylocal", b"-3\n", b"(Default.) Local concurrency is 10."),
        ("databytes", b"007\n", b"SMTP DATA limit is 7 bytes."),
        ("databytes", b"4294967296\n", b"SMTP DATA limit is 4294967296 bytes."),
        ("queuelifetime", None, b"(Default.) Message lifetime in the queue is 604800 seconds."),
        ("locals", None, b"(Default.) Messages for me are delivered locally."),
        ("locals", b"", b""),
        ("locals", b"a\n# b\n\n c \nd", b"\nMessages for a are delivered locally.\n"
         b"Messages for  c are delivered locally.\nMessages for d are delivered locally."),
        ("badmailfrom", b"a\0b\n\0c\n", b"\na not accepted in MAIL FROM.\nb not accepted in MAIL FROM."),
        ("smtproutes", b":relay\n", b"\nSMTP route: :relay"),
        ("percenthack", b"x\n", b"\nThe percent hack is allowed for user%host@x."),
        ("qmqpservers", None, b"(Default.) No QMQP servers."),
        ("rcpthosts", None, b"(Default.) SMTP clients may send messages to any recipient."),
        ("morercpthosts", None, b"(Default.) No rcpthosts; morercpthosts is irrelevant."),
        ("morercpthosts", b"a\n", b"\nNo rcpthosts; doesn't matter that morercpthosts has a."),
        ("virtualdomains", b"a:b\n", b"\nVirtual domain: a:b"),
    ],
)  # fmt: skip
def test_what_a_file_means(home: Path, name: str, text: bytes | None, wanted: bytes) -> None:
    if text is not None:
        (home / "control" / name).write_bytes(text)
    assert paragraph(home, name) == wanted


def test_me_is_the_default_of_others_but_not_of_all(home: Path) -> None:
    (home / "control/me").write_bytes(b"m.e\n")
    assert paragraph(home, "helohost") == b"(Default.) SMTP client HELO host name is m.e."
    assert paragraph(home, "bouncefrom") == b"(Default.) Bounce user name is MAILER-DAEMON."
    assert paragraph(home, "locals") == b"(Default.) Messages for me are delivered locally."


@pytest.mark.parametrize(
    ("text_s", "compiled_s", "wanted"),
    [
        (None, None, b"(Default.) No effect."),
        (None, 5, b"Oops! morercpthosts.cdb exists but morercpthosts doesn't."),
        (5, None, b"Oops! morercpthosts exists but morercpthosts.cdb doesn't."),
        (6, 5, b"Oops! morercpthosts.cdb is older than morercpthosts."),
        (5, 5, b"Modified recently enough; hopefully up to date."),
    ],
)
def test_a_compiled_file_older_than_its_text_is_named(
    home: Path, text_s: int | None, compiled_s: int | None, wanted: bytes
) -> None:
    for name, at_s in (("morercpthosts", text_s), ("morercpthosts.cdb", compiled_s)):
        if at_s is not None:
            (home / "control" / name).write_bytes(b"")
            os.utime(home / "control" / name, (at_s, at_s))
    assert paragraph(home, "morercpthosts.cdb") == wanted


def test_a_file_that_cannot_be_read_does_not_end_it(home: Path) -> None:
    for name in ("locals", "helohost", "databytes", "rcpthosts"):
        (home / "control" / name).mkdir()
    for name in ("locals", "helohost", "databytes"):
        assert paragraph(home, name) == b"Oops! Trouble reading this file."
    assert paragraph(home, "morercpthosts") == b"(Default.) No effect."


def test_what_nobody_knows_is_named_in_the_directory_s_order(home: Path) -> None:
    for name in ("zz", "strange", "helohost"):
        (home / "control" / name).write_bytes(b"")
    wanted = [name for name in os.listdir(home / "control") if name != "helohost"]
    assert [part.split(b":")[0].decode() for part in shown(home).split(b"\n\n")[-2:]] == wanted
    assert shown(home).endswith(b": I have no idea what this file does.\n")


@pytest.mark.parametrize(
    ("broken", "wanted"),
    [("home", b"Oops! Unable to chdir to %b.\n"), ("control", b"Oops! Unable to chdir to control.\n"),
     ("me", b"Oops! Trouble reading control/me.")],
)  # fmt: skip
def test_without_a_directory_or_me_it_ends(home: Path, broken: str, wanted: bytes) -> None:
    place = home
    if broken == "home":
        place = home / "nowhere"
    elif broken == "control":
        (home / "control").rmdir()
    else:
        (home / "control/me").mkdir()
    with pytest.raises(CannotShow) as caught:
        shown(place)
    assert caught.value.text == (wanted % bytes(place) if b"%b" in wanted else wanted)
