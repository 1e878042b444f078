"""What other software types when it says `sendmail`: command lines as they are there, and five programs run.

Debian's cron, too, was run for one minute by hand, with MAILTO=root,alias: its command line is that of the table.

`$QMAILQUEUE` catches what would be queued: the message and its envelope.
"""

import os
import subprocess
from pathlib import Path

import pytest
from interop_system import DEADLINE_S, System, program

CATCH = """#!/bin/sh
cat >"$CAUGHT.message"
cat <&1 >"$CAUGHT.envelope"
"""
HEADER = b"To: ann@x.test, ben@x.test\nBcc: kim@x.test\nSubject: hello\n"
ALL = ["kim@x.test", "ben@x.test", "ann@x.test"]  # qmail-inject's order: each field from the right
BODY = b"\none\n.\n..\nFrom the end\n"
USER = "root@mail.test"


class Post:
    """A home that is not started, in which `sendmail` submits to the catcher."""

    def __init__(self, system: System, directory: Path) -> None:
        self._system, self._caught, self._catcher = system, directory / "caught", directory / "catch"
        self.sendmail = system.bin("sendmail")
        self._catcher.write_text(CATCH)
        self._catcher.chmod(0o755)
        for name in ("me", "defaulthost", "defaultdomain", "idhost"):
            system.control(name, "mail.test\n")
        self.environ = system.environ | {
            "QMAILQUEUE": str(self._catcher), "CAUGHT": str(self._caught), "USER": "root", "HOME": str(directory),
        }  # fmt: skip

    def run(self, argv: list[str], data: bytes = b"", **environ: str) -> "subprocess.CompletedProcess[bytes]":
        """A command to its end."""
        return subprocess.run(argv, input=data, env=self.environ | environ, cwd=self.environ["HOME"],
                              capture_output=True, timeout=DEADLINE_S, check=False)  # fmt: skip

    def caught(self) -> tuple[str, list[str], bytes]:
        """Sender, recipients and message; each only once."""
        envelope = Path(f"{self._caught}.envelope").read_bytes()
        message = Path(f"{self._caught}.message").read_bytes()
        for kind in ("envelope", "message"):
            os.unlink(f"{self._caught}.{kind}")
        sender, *recipients, end, last = envelope.decode().split("\0")
        assert (sender[:1], {one[:1] for one in recipients} - {"T"}, end, last) == ("F", set(), "", "")
        return sender[1:], [one[1:] for one in recipients], message


@pytest.fixture
def post(system: System, short_directory: Path) -> Post:
    return Post(system, short_directory)


@pytest.mark.parametrize(
    ("who", "words", "header", "sender", "recipients"),
    [
        # with -t: from the header, Bcc taken out
        ("cron of Paul Vixie, OpenBSD, FreeBSD", "-FCronDaemon -odi -oem -oi -t", HEADER, USER, ALL),
        ("cronie", "-FCronDaemon -i -odi -oem -oi -t -f root", HEADER, USER, ALL),
        ("PHP", "-t -i", HEADER, USER, ALL),
        ("PHP's mail() with a fifth argument", "-t -i -fwww@site.test", HEADER, "www@site.test", ALL),
        ("mdadm, sudo, logwatch, Mail::Mailer", "-t", HEADER, USER, ALL),
        ("unattended-upgrades, apt-listchanges", "-oi -t", HEADER, USER, ALL),
        ("Emacs' sendmail.el", "-oi -f me@site.test -oem -odb -t", HEADER, "me@site.test", ALL),
        ("Emacs' smtpmail fallback, Gnus", "-oi -oep -odi -t", HEADER, USER, ALL),
        ("alpine with sendmail-path", "-oem -oi -t", HEADER, USER, ALL),
        ("Action Mailer before Rails 7", "-i -t", HEADER, USER, ALL),
        ("both", "-t -i -- kim@x.test", b"To: ann@x.test\nSubject: hello\n", USER, ["kim@x.test", "ann@x.test"]),
        # without: from the arguments, the header only shown
        ("Debian's cron", "-i -FCronDaemon -B8BITMIME -oem root", HEADER, USER, ["root@mail.test"]),
        ("Debian's cron, MAILTO=a@y.test,b@y.test: one address, to C too",
         "-i -FCronDaemon -B8BITMIME -oem a@y.test,b@y.test", HEADER, USER, ["a@y.test,b@y.test"]),
        ("mail of GNU mailutils -r", "-oi -f me@site.test -t", HEADER, "me@site.test", ALL),
        ("bsd-mailx -r", "-i -t -f me@site.test", HEADER, "me@site.test", ALL),
        ("anacron", "-FAnacron -odi root", HEADER, USER, ["root@mail.test"]),
        ("at", "-i root", HEADER, USER, ["root@mail.test"]),
        ("mutt", "-oem -oi -- a@y.test b@y.test", HEADER, USER, ["a@y.test", "b@y.test"]),
        ("mutt, all settings", "-oem -oi -f me@site.test -B8BITMIME -N failure,delay -R hdrs -- a@y.test",
         HEADER, "me@site.test", ["a@y.test"]),
        ("git send-email", "-f me@site.test -i a@y.test b@y.test", HEADER, "me@site.test", ["a@y.test", "b@y.test"]),
        ("s-nail", "-i -m -v -f me@site.test -- a@y.test", HEADER, "me@site.test", ["a@y.test"]),
        ("mailx -r", "-i -r me@site.test a@y.test", HEADER, "me@site.test", ["a@y.test"]),
        ("Mailman 2's Sendmail.py", "-f list-bounces@site.test a@y.test b@y.test", HEADER, "list-bounces@site.test",
         ["a@y.test", "b@y.test"]),
        ("Majordomo", "-oi -oee -flist-owner@site.test a@y.test", HEADER, "list-owner@site.test", ["a@y.test"]),
        ("Sympa", "-oi -odi -oem -f list-owner@site.test -N success,failure -V 42.1 -- a@y.test", HEADER,
         "list-owner@site.test", ["a@y.test"]),
        ("Action Mailer since Rails 7, Email::Sender", "-i -f me@site.test -- a@y.test", HEADER, "me@site.test",
         ["a@y.test"]),
        ("fetchmail --mda", "-i -f me@site.test -- joe", HEADER, "me@site.test", ["joe@mail.test"]),
        ("procmail's forwarding", "-oi -f me@site.test a@y.test", HEADER, "me@site.test", ["a@y.test"]),
        ("a bounce of amavisd or Exim's kind", "-i -f <> a@y.test", HEADER, "", ["a@y.test"]),
        ("smartd's Example7", "root@y.test", HEADER, USER, ["root@y.test"]),
        ("reportbug", "-oi -oem -bm a@y.test", HEADER, USER, ["a@y.test"]),
    ],
)  # fmt: skip
def test_command_lines_of_real_software(
    post: Post, who: str, words: str, header: bytes, sender: str, recipients: list[str]
) -> None:
    done = post.run([post.sendmail, *words.split(" ")], header + BODY)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), who
    got_sender, got_recipients, message = post.caught()
    assert (got_sender, sorted(got_recipients)) == (sender, sorted(recipients)), who
    assert message.endswith(b"\nSubject: hello\n" + BODY)
    assert b"kim@x.test" not in message
    for line in (b"Date: ", b"Message-ID: ", b"From: ", b"To: ann@x.test"):
        assert b"\n" + line in b"\n" + message


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("-FCronDaemon -i root", b'From: "CronDaemon" <root@mail.test>\n'),
        ("-FCronDaemon -i -f boss@site.test root", b"From: boss@site.test\n"),
        ("-i root", b"From: root@mail.test\n"),
    ],
)
def test_mail_without_a_from_field_is_from_who_the_options_say(post: Post, words: str, wanted: bytes) -> None:
    assert post.run([post.sendmail, *words.split()], b"Subject: no From\n\nx\n").returncode == 0
    assert wanted in post.caught()[2]


@pytest.mark.debian("git")
def test_git_send_email(post: Post) -> None:
    """Twice: with an envelope sender and with none."""
    identity = ["-c", "user.name=Joe", "-c", "user.email=joe@site.test", "-c", "init.defaultBranch=main"]
    git = [program("git"), *identity]
    modules = post.run([program("perl"), "-MGit::LoadCPAN::Mail::Address", "-e1"]).returncode
    if modules or b"send-email" not in post.run([*git, "--list-cmds=main"]).stdout.split():
        pytest.skip("git send-email is not installed, or not whole (Debian packages git-email and libmailtools-perl)")
    settled = {"GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
    repository = Path(post.environ["HOME"]) / "r"
    assert post.run([*git, "init", "-q", str(repository)], **settled).returncode == 0
    git += ["-C", str(repository)]
    (repository / "file").write_text("text\n.\n")
    for command in (
        ["add", "file"],
        ["commit", "-q", "-m", "A change", "-m", "Gründe."],
        ["format-patch", "-q", "--root"],
    ):
        done = post.run([*git, *command], **settled)
        assert done.returncode == 0, done.stderr
    send = [*git, "send-email", "--quiet", "--confirm=never", "--suppress-cc=all", "--to=a@y.test", "--cc=b@y.test",
            "--8bit-encoding=UTF-8"]  # fmt: skip
    for option, sender in (("--envelope-sender=bounces@site.test", "bounces@site.test"), ("--no-validate", USER)):
        command = [*send, option, f"--sendmail-cmd={post.sendmail}", "0001-A-change.patch"]
        done = post.run(command, **settled)
        assert done.returncode == 0, done.stdout + done.stderr
        got_sender, recipients, message = post.caught()
        assert (got_sender, sorted(recipients)) == (sender, ["a@y.test", "b@y.test"])
        assert b"Subject: [PATCH] A change\n" in message and b"\n+text\n+.\n" in message
        assert b"From: Joe <joe@site.test>\n" in message and "Gründe.".encode() in message


@pytest.mark.debian("mutt")
@pytest.mark.parametrize(
    ("settings", "sender"),
    [
        ("", USER),
        ("set use_envelope_from\nset envelope_from_address=joe@site.test\nset use_8bitmime\n"
         "set dsn_notify='failure,delay'\nset dsn_return=hdrs\n", "joe@site.test"),
    ],
)  # fmt: skip
def test_mutt(post: Post, settings: str, sender: str) -> None:
    home = Path(post.environ["HOME"])
    (home / "muttrc").write_text(
        f'set sendmail="{post.sendmail} -oem -oi"\nset from="Joe <joe@site.test>"\nset copy=no\n'
        f"set send_charset=utf-8\nset record=''\n{settings}"
    )
    mutt = [program("mutt"), "-n", "-F", str(home / "muttrc"), "-s", "hello", "-c", "b@y.test", "-b", "c@y.test"]
    done = post.run([*mutt, "--", "a@y.test"], "Grüße\n.\nend\n".encode(), LC_ALL="C.UTF-8", TERM="dumb")
    assert (done.returncode, done.stderr) == (0, b""), done.stdout
    got_sender, recipients, message = post.caught()
    assert (got_sender, sorted(recipients)) == (sender, ["a@y.test", "b@y.test", "c@y.test"])
    assert b"\nFrom: Joe <joe@site.test>\n" in message and b"c@y.test" not in message
    assert b"\n.\nend\n" in message


@pytest.mark.debian("s-nail")
def test_s_nail(post: Post) -> None:
    nail = [program("s-nail"), "-:/", "-S", f"mta={post.sendmail}", "-S", "DEAD=/dev/null", "-S", "from=joe@site.test"]
    command = [*nail, "-r", "bounces@site.test", "-s", "hello", "-c", "b@y.test", "-b", "c@y.test", "a@y.test"]
    done = post.run(command, b"text\n.\nend\n", USER=os.environ["USER"])  # it complains about another's name
    assert (done.returncode, done.stderr) == (0, b""), done.stdout
    sender, recipients, message = post.caught()
    assert (sender, sorted(recipients)) == ("bounces@site.test", ["a@y.test", "b@y.test", "c@y.test"])
    assert b"c@y.test" not in message and message.endswith(b"\ntext\n.\nend\n")


@pytest.mark.debian("bsd-mailx")
def test_bsd_mailx(post: Post) -> None:
    settings = Path(post.environ["HOME"]) / "rc"
    settings.write_text(f"set sendmail={post.sendmail}\nset sendwait\n")
    command = [program("bsd-mailx"), "-n", "-s", "hello", "-r", "bounces@site.test", "-c", "b@y.test", "-b", "c@y.test"]
    done = post.run([*command, "a@y.test"], b"text\n.\nend\n", MAILRC=str(settings))
    assert (done.returncode, done.stderr) == (0, b""), done.stdout
    sender, recipients, message = post.caught()
    assert (sender, sorted(recipients)) == ("bounces@site.test", ["a@y.test", "b@y.test", "c@y.test"])
    assert b"c@y.test" not in message and message.endswith(b"\ntext\n.\nend\n")


PHP = r"""
$sent = mail("a@y.test, b@y.test", "hello", "one\n.\n..\nFrom the end\n",
             "From: Joe <joe@site.test>\r\nCc: c@y.test\r\nBcc: d@y.test", "-fbounces@site.test");
exit($sent ? 0 : 1);
"""


@pytest.mark.debian("php")
@pytest.mark.parametrize("with_lf", [True, False], ids=["LF", "CR LF"])
def test_php_mail(post: Post, with_lf: bool) -> None:
    """PHP 8 writes CR LF unless told otherwise. As under C the CRs stay; the header is understood all the same."""
    command = [program("php"), "-n", "-d", f"sendmail_path={post.sendmail} -t -i"]
    command += ["-d", "mail.mixed_lf_and_crlf=On"] if with_lf else []
    done = post.run([*command, "-r", PHP])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    sender, recipients, message = post.caught()
    assert (sender, sorted(recipients)) == ("bounces@site.test", [f"{one}@y.test" for one in "abcd"])
    head, _, body = message.replace(b"\r\n", b"\n").partition(b"\n\n")
    assert (b"\r" in message) is not with_lf
    assert b"d@y.test" not in message
    for line in (b"From: Joe <joe@site.test>", b"To: a@y.test, b@y.test", b"Cc: c@y.test", b"Subject: hello"):
        assert line in head.split(b"\n")
    assert body.strip(b"\n") == b"one\n.\n..\nFrom the end"
