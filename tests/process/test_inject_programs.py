"""qmail-inject and sendmail as processes: message and envelope as a queue program sees them, and what -n prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
QUEUE_PROGRAM = """#!/bin/sh
cat >"$KEEP/message"
cat <&1 >"$KEEP/envelope"
[ -z "$QUEUE_ERROR" ] || printf '%s' "$QUEUE_ERROR" >&6
exit "${QUEUE_EXIT:-0}"
"""
LAUNCHER = f"""#!{sys.executable} -IS
# {{marker}}
import sys
sys.path.insert(0, {str(SOURCE)!r})
from notqmail.programs.{{module}} import start
start()
"""


class Site:
    """A home with control files, the programs, and a queue program that keeps what it gets."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.keep = directory / "keep"
        self.environ = {"QMAILHOME": str(self.home), "KEEP": str(self.keep), "USER": "joe", "PATH": os.environ["PATH"],
                        "QMAILQUEUE": str(directory / "queue")}  # fmt: skip
        for folder in (self.home / "control", self.home / "bin", self.keep):
            folder.mkdir(parents=True)
        self.script(directory / "queue", QUEUE_PROGRAM)
        for name, text in (("me", "host.example.org"), ("defaultdomain", "example.org"), ("plusdomain", "plus.org")):
            (self.home / "control" / name).write_text(text + "\n")
        self.launcher("qmail-inject", "qmail_inject")
        self.launcher("sendmail", "sendmail")

    def script(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def launcher(self, name: str, module: str, *, marker: str = "notqmail-python launcher") -> None:
        self.script(self.home / "bin" / name, LAUNCHER.format(module=module, marker=marker))

    def run(
        self, *command: str | bytes, message: bytes = b"", program: str = "qmail-inject", **environ: str
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [self.home / "bin" / program, *command], input=message, capture_output=True, timeout=60, check=False,
            env=self.environ | environ,
        )  # fmt: skip

    @property
    def message(self) -> bytes:
        return (self.keep / "message").read_bytes()

    @property
    def envelope(self) -> list[bytes]:
        text = (self.keep / "envelope").read_bytes()
        assert text.endswith(b"\0\0")
        return text[:-2].split(b"\0")

    @property
    def nothing_was_queued(self) -> bool:
        envelope = self.keep / "envelope"
        return not envelope.exists() or not envelope.read_bytes().endswith(b"\0\0")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def without_stamps(text: bytes) -> bytes:
    text = re.sub(rb"\d{14}\.\d+\.qmail@", b"STAMP@", text)
    return re.sub(rb"Date: \d+ [A-Z][a-z]{2} \d{4} [0-9:]{8} -0000\n", b"Date: NOW\n", text)


def test_n_prints_the_message_with_every_address_completed(site: Site) -> None:
    message = (
        b"To: fred, a@b, x@mac+ , k@[1.2.3.4], Foo <@route:foo@bar>, djb fred, a@b.c., a@.b (hi)\n"
        b"Bcc: secret\nContent-Length: 5\nSubject: x\n\nbody"
    )
    done = site.run("-n", message=message)
    assert (done.returncode, done.stderr) == (0, b"")
    assert without_stamps(done.stdout) == (
        b"Return-Path: <joe@host.example.org>\n"
        b"Date: NOW\n"
        b"Message-ID: <STAMP@host.example.org>\n"
        b"From: joe@host.example.org\n"
        b"To: fred@host.example.org, a@b.example.org, x@mac.plus.org, k@[1.2.3.4],\n"
        b"  Foo <foo@bar.example.org>, djb@host.example.org, fred@host.example.org,\n"
        b"  a@b.c, a@.b (hi)\n"
        b"Subject: x\n"
        b"\n"
        b"body\n"
    )
    assert not list(site.keep.iterdir())


def test_a_sender_with_verp_is_printed_quoted(site: Site) -> None:
    done = site.run("-n", QMAILINJECT="r")
    assert done.stdout.startswith(b'Return-Path: <"joe-@host-"@[]>\n'.replace(b"host-", b"host.example.org-"))


def test_message_and_envelope_reach_the_queue(site: Site) -> None:
    done = site.run(message=b"To: a@x.y, b\nCc: c@x.y\nBcc: d@x.y\nDate: x\nMessage-ID: y\nFrom: z@x.y\n\nhello\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert site.message == (b"To: a@x.y, b@host.example.org\nCc: c@x.y\nDate: x\nMessage-ID: y\nFrom: z@x.y\n\nhello\n")
    assert site.envelope == [
        b"Fjoe@host.example.org", b"Tb@host.example.org", b"Ta@x.y", b"Tc@x.y", b"Td@x.y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "recipients"),
    [
        ([], [b"Th@x.y"]),
        (["-h", "a@x.y"], [b"Th@x.y"]),
        (["a@x.y", "b+ c@m+"], [b"Ta@x.y", b"Tb+ c@m.plus.org"]),
        (["-a"], []),
        (["-H", "a"], [b"Ta@host.example.org", b"Th@x.y"]),
        (["-H", "-A", "a@x.y"], [b"Ta@x.y"]),
        (["--", "-a@x.y"], [b"T-a@x.y"]),
    ],
)
def test_who_the_recipients_are(site: Site, words: list[str], recipients: list[bytes]) -> None:
    assert site.run(*words, message=b"To: h@x.y\n\n").returncode == 0
    assert site.envelope[1:] == recipients


@pytest.mark.parametrize(
    ("words", "sender"),
    [
        (["-f", "s@m"], b"Fs@m.example.org"),
        (["-f", ""], b"F"),
        (["-fjoe s@x.y"], b"Fjoe s@x.y"),
        (["-f", "#@[]"], b"F#@[]"),
    ],
)
def test_f_is_the_envelope_sender(site: Site, words: list[str], sender: bytes) -> None:
    assert site.run(*words, "a@x.y", message=b"Return-Path: <no@x.y>\n\n").returncode == 0
    assert site.envelope[0] == sender


def test_bytes_above_ascii_pass_in_arguments_and_header(site: Site) -> None:
    assert site.run(b"j\xe9@x.y", message=b"Subject: \xff\n\n\xfe").returncode == 0
    assert site.envelope[1] == b"Tj\xe9@x.y"
    assert site.message.endswith(b"Subject: \xff\n\n\xfe\n")


def test_a_large_body_passes_unchanged(site: Site) -> None:
    body = os.urandom(3_000_000) + b"\n"
    assert site.run("a@x.y", message=b"A: b\n\n" + body).returncode == 0
    assert site.message.endswith(b"A: b\n\n" + body)


@pytest.mark.parametrize(
    ("queue_exit", "error", "code", "text"),
    [
        ("31", "", 100, b"qmail-inject: fatal: mail server permanently rejected message (#5.3.0)\n"),
        ("53", "", 111, b"qmail-inject: fatal: qq write error or disk full (#4.3.0)\n"),
        ("82", "Dno thanks", 100, b"qmail-inject: fatal: no thanks\n"),
        ("82", "Zlater", 111, b"qmail-inject: fatal: later\n"),
    ],
)
def test_what_the_queue_answers_is_told(site: Site, queue_exit: str, error: str, code: int, text: bytes) -> None:
    done = site.run("a@x.y", QUEUE_EXIT=queue_exit, QUEUE_ERROR=error)
    assert (done.returncode, done.stderr) == (code, text)


@pytest.mark.parametrize(
    ("words", "message", "text"),
    [
        ([], b"To: foo: bar, baz\n\n", b"fatal: unable to parse this line:\nTo: foo: bar, baz\n"),
        (["-H", "a"], b"Cc: (\n x\n\n", b"fatal: unable to parse this line:\nCc: (\n x\n"),
        (["-n"], b"To: foo: bar, baz\n\n", b"fatal: unable to parse this line:\nTo: foo: bar, baz\n"),
        (["a"], b"From: a: b\n\n", b"fatal: unable to parse this line:\nFrom: a: b\n"),
        (["a@)"], b"", b"fatal: unable to parse address: a@)\n"),
        (["-f", "a@)"], b"", b"fatal: unable to parse this line:\na@)\n"),
        (["-x"], b"", b"illegal option -- x\n"),
        (["-f"], b"", b"option requires an argument -- f\n"),
        (["a"], b"X: " + b"y" * 4_200_000, b"fatal: the header is longer than 4194304 bytes\n"),
    ],
)
def test_refusals_leave_no_trace(site: Site, words: list[str], message: bytes, text: bytes) -> None:
    done = site.run(*words, message=message)
    assert (done.returncode, done.stderr) == (100, b"qmail-inject: " + text)
    assert not list(site.keep.iterdir())


def test_a_broken_recipient_field_is_no_matter_when_recipients_are_arguments(site: Site) -> None:
    assert site.run("a@x.y", message=b"To: foo: bar, baz\n\n").returncode == 0
    assert b"To: foo: bar, baz\n" in site.message
    assert site.envelope[1:] == [b"Ta@x.y"]


def test_an_unreadable_message_is_a_temporary_failure_and_is_not_queued(site: Site, tmp_path: Path) -> None:
    unreadable = os.open(tmp_path / "written", os.O_WRONLY | os.O_CREAT)
    try:
        done = subprocess.run(
            [site.home / "bin/qmail-inject", "a@x.y"], stdin=unreadable, capture_output=True, timeout=60, check=False,
            env=site.environ,
        )  # fmt: skip
    finally:
        os.close(unreadable)
    assert (done.returncode, done.stderr) == (111, b"qmail-inject: fatal: read error\n")
    assert site.nothing_was_queued


def test_a_control_file_that_cannot_be_read_is_a_temporary_failure(site: Site) -> None:
    (site.home / "control/defaulthost").mkdir()
    done = site.run("a")
    assert (done.returncode, done.stderr) == (111, b"qmail-inject: fatal: read error\n")


def test_no_home_is_a_temporary_failure(site: Site) -> None:
    done = site.run("a", QMAILHOME="/nonexistent/home")
    assert (done.returncode, done.stderr) == (111, b"qmail-inject: fatal: internal bug\n")


def test_the_environment_beats_the_control_files(site: Site) -> None:
    environ = {"QMAILDEFAULTHOST": "dh", "QMAILDEFAULTDOMAIN": "dd", "QMAILPLUSDOMAIN": "pd", "QMAILIDHOST": "id"}
    done = site.run("-n", message=b"To: a, b@m+\n", **environ)
    assert b"\nTo: a@dh.dd, b@m.pd\n" in done.stdout
    assert b".qmail@id>\n" in done.stdout


def test_mailing_lists_file_is_found_from_where_the_user_stands(site: Site, tmp_path: Path) -> None:
    (tmp_path / "lists").write_text("# mine\nlist@x.y\n")
    done = subprocess.run(
        [site.home / "bin/qmail-inject", "-n"], input=b"To: LIST@x.y, a@x.y\n", capture_output=True, timeout=60,
        check=True, cwd=tmp_path, env=site.environ | {"QMAILMFTFILE": "lists"},
    )  # fmt: skip
    assert b"Mail-Followup-To: LIST@x.y,\n  a@x.y\n" in done.stdout


def test_help_is_printed_only_when_it_is_the_only_argument(site: Site) -> None:
    for program in ("qmail-inject", "sendmail"):
        done = site.run("--help", program=program)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"usage: " + program.encode())
    assert site.run("-f", "--help", "--", "a@x.y").returncode == 0
    assert site.envelope == [b"F--help@host.example.org", b"Ta@x.y"]


def test_sendmail_submits(site: Site) -> None:
    message = b"To: h@x.y\n\nhello\n"
    done = site.run("-t", "-oi", "-f", "me@x.y", "-FName", "a@x.y", message=message, program="sendmail")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert site.envelope == [b"Fme@x.y", b"Ta@x.y", b"Th@x.y"]
    assert b"From: me@x.y\n" in site.message


def test_sendmail_runs_a_qmail_inject_that_is_not_ours(site: Site) -> None:
    site.script(site.home / "bin/qmail-inject", '#!/bin/sh\necho "$0" "$@"; pwd; echo "$QMAILUSER"; exit 7\n')
    done = site.run("-i", "-f", "joe s@x", "a", program="sendmail")
    assert done.returncode == 7
    assert done.stdout.decode() == f"bin/qmail-inject -a -f joe s@x -- a\n{site.home}\njoe s\n"


@pytest.mark.parametrize(("words", "wanted"), [(["-bs"], "qmail-smtpd"), (["-bp"], "qmail-qread")])
def test_sendmail_becomes_other_programs(site: Site, words: list[str], wanted: str) -> None:
    missing = site.run(*words, program="sendmail")
    assert missing.returncode == 111
    assert missing.stderr.decode() == f"sendmail: fatal: unable to run {wanted}\n"
    site.script(site.home / "bin" / wanted, '#!/bin/sh\necho "$0 $# ${RELAYCLIENT-unset} $TCPREMOTEINFO"\n')
    done = site.run(*words, program="sendmail")
    relay = " sendmail-bs" if words == ["-bs"] else "unset "
    assert done.stdout.decode() == f"bin/{wanted} 0 {relay}\n"


def test_mailq_is_sendmail_under_another_name(site: Site) -> None:
    (site.home / "bin/mailq").symlink_to("sendmail")
    site.script(site.home / "bin/qmail-qread", "#!/bin/sh\necho listed\n")
    assert site.run(program="mailq").stdout == b"listed\n"


def test_sendmail_refuses_daemon_options_with_the_usage(site: Site) -> None:
    done = site.run("-bd", program="sendmail")
    assert done.returncode == 100
    assert done.stderr == (b"sendmail: usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]\n")


def test_sendmail_without_a_home_says_so(site: Site) -> None:
    done = site.run("a", program="sendmail", QMAILHOME="/nonexistent/home")
    assert (done.returncode, done.stderr) == (111, b"sendmail: fatal: unable to switch to qmail home directory\n")


@pytest.mark.parametrize("program", ["qmail_inject", "sendmail"])
def test_only_light_modules_are_imported(program: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import notqmail.programs.{program} as p; " \
           "import notqmail.programs.qmail_inject; print(*sys.modules)"  # fmt: skip
    loaded = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, check=True, timeout=60)
    heavy = {b"asyncio", b"argparse", b"logging", b"dataclasses", b"typing", b"subprocess", b"re", b"socket"}
    assert not heavy & set(loaded.stdout.split())
