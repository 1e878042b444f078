"""qmail-local, qmail-getpw and qmail-newu as processes: arguments, descriptors, exit codes, files."""

import os
import pwd
import subprocess
import sys

import pytest

MESSAGE = b"From: a@b\nSubject: x\n\nFrom here\nbody\n"
QUEUE_PROGRAM = """#!/bin/sh
cat >"$CAUGHT.message"
cat <&1 >"$CAUGHT.envelope"
exit ${QUEUE_EXIT-0}
"""


def _program(module, arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", f"notqmail.programs.{module}", *arguments], capture_output=True, timeout=60, check=False,
        **options,
    )  # fmt: skip


class Mail:
    """A home with a message, and qmail-local run in it."""

    def __init__(self, place):
        self.home = place / "home"
        self.home.mkdir(mode=0o755)
        self.message = place / "message"
        self.message.write_bytes(MESSAGE)
        self.caught = place / "caught"
        self.queue = place / "queue-program"
        self.queue.write_text(QUEUE_PROGRAM)
        self.queue.chmod(0o755)

    def deliver(self, default, *, ext="", sender="s@x", flags=(), environ=None):
        dash = "-" if ext else ""
        arguments = [*flags, "--", "u", str(self.home), f"u{dash}{ext}", dash, ext, "d.org", sender, default]
        environment = {
            **os.environ, "QMAILQUEUE": str(self.queue), "CAUGHT": str(self.caught), "QMAILHOME": str(self.home),
            **(environ or {}),
        }  # fmt: skip
        with open(self.message, "rb") as message:
            done = _program("qmail_local", arguments, stdin=message, env=environment)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def mail(tmp_path):
    return Mail(tmp_path)


def test_a_maildir_gets_the_message_with_two_lines_on_top(mail):
    for part in ("tmp", "new", "cur"):
        (mail.home / "Maildir" / part).mkdir(parents=True)
    assert mail.deliver("./Maildir/") == (0, b"did 1+0+0\n", b"")
    [path] = (mail.home / "Maildir" / "new").iterdir()
    assert path.read_bytes() == b"Return-Path: <s@x>\nDelivered-To: u@d.org\n" + MESSAGE


def test_a_missing_maildir_defers(mail):
    assert mail.deliver("./Maildir/") == (111, b"", b"Unable to chdir to maildir. (#4.2.1)\n")


def test_an_mbox_gets_the_three_lines_and_quoted_from_lines(mail):
    assert mail.deliver("./Mailbox") == (0, b"did 1+0+0\n", b"")
    first, rest = (mail.home / "Mailbox").read_bytes().split(b"\n", 1)
    assert first.startswith(b"From s@x ")
    assert rest == b"Return-Path: <s@x>\nDelivered-To: u@d.org\nFrom: a@b\nSubject: x\n\n>From here\nbody\n\n"


def test_programs_get_message_environment_and_home_and_the_message_is_rewound_for_each(mail):
    (mail.home / ".qmail-default").write_text(
        "|cat >first; pwd -P >where\n|cat >second\n"
        '|echo "$EXT2,$DEFAULT,$HOST2,$NEWSENDER,$RECIPIENT"; echo complaint >&2\n'
    )
    code, output, complaint = mail.deliver("", ext="List-Joe")
    assert (code, output, complaint) == (0, b"Joe,List-Joe,d,s@x,u-List-Joe@d.org\ndid 0+0+3\n", b"complaint\n")
    assert (mail.home / "first").read_bytes() == (mail.home / "second").read_bytes() == MESSAGE
    assert (mail.home / "where").read_text().strip() == os.path.realpath(mail.home)


def test_a_program_has_the_default_reaction_to_a_broken_pipe(mail):
    code, output, complaint = mail.deliver("|yes | head -1; grep -i sigign: /proc/self/status")
    assert code == 0 and complaint == b""
    ignored = int(output.split(b"SigIgn:")[1].split()[0], 16)
    assert ignored & (1 << 12) == 0  # SIGPIPE is 13


EXITS = [(0, 0), (99, 0), (100, 100), (111, 111), (1, 111), (2, 111), (71, 111), (75, 111), (113, 111), (255, 111)]
EXITS += [(code, 100) for code in (64, 65, 70, 76, 77, 78, 112)]


@pytest.mark.parametrize(("program_exit", "expected"), EXITS)
def test_a_program_s_exit_code_decides(mail, program_exit, expected):
    code, output, complaint = mail.deliver(f"|exit {program_exit}\n|echo more")
    more = b"more\ndid 0+0+2\n" if program_exit == 0 else b"did 0+0+1\n" if program_exit == 99 else b""
    assert (code, output, complaint) == (expected, more, b"")


def test_a_killed_program_defers(mail):
    assert mail.deliver("|kill -9 $$") == (111, b"", b"Aack, child crashed. (#4.3.0)\n")


def test_all_forwards_are_one_message_with_the_delivered_to_line(mail):
    code, output, complaint = mail.deliver("&a@x\nb@y\n|true\n")
    assert (code, complaint) == (0, b"")
    count, qp = output.splitlines()
    assert count == b"did 0+2+1" and qp.startswith(b"qp ") and int(qp[3:]) > 0
    assert mail.caught.with_suffix(".message").read_bytes() == b"Delivered-To: u@d.org\n" + MESSAGE
    assert mail.caught.with_suffix(".envelope").read_bytes() == b"Fs@x\0Ta@x\0Tb@y\0\0"


def test_exit_99_still_sends_the_forwards_before_it(mail):
    code, output, _ = mail.deliver("&a@x\n|exit 99\n&b@y\n")
    assert code == 0 and output.startswith(b"did 0+1+1\nqp ")
    assert mail.caught.with_suffix(".envelope").read_bytes() == b"Fs@x\0Ta@x\0\0"


def test_a_failing_line_prevents_every_forward(mail):
    assert mail.deliver("&a@x\n|exit 1\n&b@y\n")[0] == 111
    assert not mail.caught.with_suffix(".envelope").exists()


def test_a_list_owner_becomes_the_sender_of_what_is_forwarded(mail):
    (mail.home / ".qmail-list").write_text("&a@x\n")
    (mail.home / ".qmail-list-owner").write_text("&u\n")
    (mail.home / ".qmail-list-owner-default").write_text("&u\n")
    assert mail.deliver("", ext="list")[0] == 0
    assert mail.caught.with_suffix(".envelope").read_bytes() == b"Fu-list-owner-@d.org-@[]\0Ta@x\0\0"


@pytest.mark.parametrize(
    ("queue_exit", "code", "text"),
    [
        (31, 100, b"Unable to forward message: mail server permanently rejected message (#5.3.0).\n"),
        (53, 111, b"Unable to forward message: qq write error or disk full (#4.3.0).\n"),
    ],
)
def test_the_queue_s_refusal_is_the_delivery_s(mail, queue_exit, code, text):
    assert mail.deliver("&a@x", environ={"QUEUE_EXIT": str(queue_exit)}) == (code, b"", text)


def test_a_dry_run_only_talks(mail):
    (mail.home / ".qmail").write_text("./Mailbox\n./M/\n|exit 1\n&a@x\n# c\n+list\n./refused\n")
    assert mail.deliver("", flags=["-N", "-n"]) == (
        111,
        b"mbox ./Mailbox\nmaildir ./M/\nprogram exit 1\nforward a@x\n",
        b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n",
    )
    assert sorted(path.name for path in mail.home.iterdir()) == [".qmail"]


def test_an_x_bit_in_the_middle_keeps_what_was_delivered_before(mail):
    (mail.home / ".qmail").write_text("./Mailbox\n+list\n./refused\n")
    assert mail.deliver("")[0] == 111
    assert (mail.home / "Mailbox").exists() and not (mail.home / "refused").exists()


USAGE = b"qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty\n"


@pytest.mark.parametrize(
    ("arguments", "code", "output", "complaint"),
    [
        ([], 100, b"", USAGE),
        (["u"], 100, b"", USAGE),
        (["-q"], 100, b"", b"qmail-local: illegal option -- q\n" + USAGE),
        (["u", "relative", "l", "", "", "d", "s", "./x"], 100, b"", USAGE),
        (["--help"], 0, USAGE.removeprefix(b"qmail-local: "), b""),
    ],
)
def test_bad_arguments_are_a_permanent_failure(arguments, code, output, complaint):
    done = _program("qmail_local", arguments, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (code, output, complaint)


def test_getpw_prints_six_fields():
    done = _program("qmail_getpw", ["No-Such-User-Here"])
    try:
        alias = pwd.getpwnam("alias")
    except KeyError:
        assert (done.returncode, done.stdout) == (116, b"")
    else:
        assert done.stdout.split(b"\0")[:2] == [b"alias", b"%d" % alias.pw_uid]
    assert _program("qmail_getpw", []).returncode == 100


def test_newu_replaces_the_database_only_when_all_is_well(tmp_path):
    users = tmp_path / "users"
    users.mkdir()
    environment = {**os.environ, "QMAILHOME": str(tmp_path)}
    missing = _program("qmail_newu", [], env=environment)
    assert (missing.returncode, missing.stderr) == (111, b"qmail-newu: fatal: unable to open users/assign\n")
    (users / "assign").write_bytes(b"=joe:joe:1:2:/home/joe:::\n.\n")
    assert _program("qmail_newu", [], env=environment).returncode == 0
    built = (users / "cdb").read_bytes()
    assert (users / "cdb").stat().st_mode & 0o777 == 0o644 and len(built) > 2048
    (users / "assign").write_bytes(b"=joe:joe:1:2:/home/joe:::\n")
    bad = _program("qmail_newu", [], env=environment)
    assert bad.returncode == 111
    assert bad.stderr.startswith(b"qmail-newu: fatal: bad format in users/assign")
    assert (users / "cdb").read_bytes() == built
    assert not (users / "cdb.tmp").exists()
