"""qmail-qfilter, qmail-qfilter-queue, qmail-rfilter and qmail-lfilter as programs, with real filters.

The tables of exit codes and of what a queue program gets are what Bruce Guenter's qmail-qfilter gave for the same, run
beside ours; where they differ, differences.md says so.
"""

import os
import pwd
import re
import signal
import subprocess
import sys
import syslog
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_home import Home

from notqmail.deliver import filters
from notqmail.wire.spawn_link import Delivery, ReportReader

MESSAGE = b"Subject: x\n\nbody\n"
ENVELOPE = b"Fs@x\0Ta@b\0Tc@d\0\0"
DEADLINE_S = 60.0
LOGIN = pwd.getpwuid(os.geteuid()).pw_name
CATCHER = """#!/bin/sh
cat >"$CAUGHT/message"
cat <&1 >"$CAUGHT/envelope"
echo "$0 $*" >"$CAUGHT/argv"
exit ${QUEUE_EXIT-0}
"""
DELIVERER = """#!/bin/sh
for word; do printf '%s|' "$word"; done >"$CAUGHT/argv"
[ -f /dev/stdin ] && cat >"$CAUGHT/message"
printf "$DELIVERER_SAYS"
"""


def script(path: Path, text: str) -> Path:
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    script(home.path / "catcher", CATCHER)
    script(home.path / "deliverer", DELIVERER)
    return home


class House:
    """A home, and what came out behind the filters."""

    def __init__(self, home: Home, caught: Path) -> None:
        self.home, self.path, self.caught = home, home.path, caught
        self.environ = {
            **os.environ, "QMAILHOME": str(self.path), "CAUGHT": str(caught), "DELIVERER_SAYS": "",
            "QQF_QMAILQUEUE": str(self.path / "catcher"), "QREMOTE": str(self.path / "deliverer"),
            "QLOCAL": str(self.path / "deliverer"),
        }  # fmt: skip

    def control(self, name: str, *lines: str) -> None:
        (self.path / "control" / name).write_text("".join(line + "\n" for line in lines))

    def filter(self, name: str, text: str) -> str:
        return str(script(self.path / "bin" / name, text))

    def out(self, name: str) -> bytes | None:
        path = self.caught / name
        return path.read_bytes() if path.exists() else None

    def queue(
        self, program: str, *words: str, message: bytes = MESSAGE, envelope: bytes = ENVELOPE,
        without: tuple[str, ...] = (), has_text_pipe: bool = True, **environ: str,
    ) -> "tuple[int, bytes, bytes]":  # fmt: skip
        """Runs a queue program as qmail-smtpd would: exit code, what came through descriptor 6, what was logged."""
        ends = [os.pipe() for _ in range(3)]
        text_pipe = f"6>&{ends[2][1]}" if has_text_pipe else "6>&-"
        pass_on = f'exec "$@" <&{ends[0][0]} 1<&{ends[1][0]} {text_pipe}'
        closing = "".join(f" {number}>&-" for pair in ends for number in pair if number > 6)
        told = {name: value for name, value in {**self.environ, **environ}.items() if name not in without}
        process = subprocess.Popen(
            ["/bin/bash", "-c", pass_on + closing, "sh", self.home.program(program), *words], cwd=self.path, env=told,
            pass_fds=(ends[0][0], ends[1][0], ends[2][1]), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (ends[0][0], ends[1][0], ends[2][1]):
            os.close(end)
        for (_, end), data in zip(ends[:2], (message, envelope), strict=True):
            with open(end, "wb", buffering=0) as file:
                try:
                    file.write(data)
                except BrokenPipeError:
                    pass  # it has decided already
        with open(ends[2][0], "rb") as file:
            custom = file.read()
        _, log = process.communicate(timeout=DEADLINE_S)
        return process.returncode, custom, log

    def spawn(self, spawner: list[str], *deliveries: Delivery, **environ: str) -> "tuple[list[bytes], bytes]":
        """Gives a spawner its commands: its reports in order of the slots, and its log."""
        commands = b"".join(delivery.encode() for delivery in deliveries)
        done = subprocess.run(
            spawner, input=commands, env={**self.environ, **environ}, capture_output=True,
            timeout=DEADLINE_S, check=True,
        )  # fmt: skip
        reports = dict(ReportReader().receive(done.stdout[1:]))
        return [reports[slot].encode() for slot in sorted(reports)], done.stderr

    def remote(self, sender: bytes = b"s@x.example", recipient: bytes = b"r@y.example", **environ: str) -> bytes:
        """One remote delivery through qmail-rspawn and qmail-rfilter; the log is kept in `log`."""
        told = {"QMAILREMOTE": self.home.program("qmail-rfilter"), "DELIVERER_SAYS": r"r250 ok\n\0Kaccepted\n\0"}
        delivery = Delivery(3, b"3/3", sender, recipient)
        [report], self.log = self.spawn([self.home.program("qmail-rspawn")], delivery, **{**told, **environ})
        return report

    def local(self, sender: bytes = b"s@x.example", recipient: bytes = b"", **environ: str) -> bytes:
        """One local delivery through qmail-lspawn and qmail-lfilter."""
        told = {"QMAILLOCAL": self.home.program("qmail-lfilter"), "DELIVERER_SAYS": r"did it\n"}
        delivery = Delivery(3, b"3/3", sender, recipient or f"{LOGIN}-ext@me.test".encode())
        [report], _ = self.spawn([self.home.program("qmail-lspawn"), "./Maildir/"], delivery, **{**told, **environ})
        return report


@pytest.fixture
def house(shared_home: Home, tmp_path: Path) -> Iterator[House]:
    message = shared_home.path / "queue/mess/3/3"
    message.write_bytes(MESSAGE)
    house = House(shared_home, tmp_path)
    yield house
    message.unlink()
    for name in ("smtpfilters", "remotefilters", "localfilters", "filtertimeout"):
        (shared_home.path / "control" / name).unlink(missing_ok=True)


# -- qmail-qfilter ---------------------------------------------------------------------------------------------------

PASSED = [
    ((), MESSAGE, ENVELOPE),
    (("true", "--"), MESSAGE, ENVELOPE),
    (("cat",), MESSAGE, ENVELOPE),
    (("sed", "s/body/BODY/", "--", "sed", "s/BODY/x/"), b"Subject: x\n\nx\n", ENVELOPE),
    (("sh", "-c", "tr x X <&3 >&4"), MESSAGE, b"Fs@X\0Ta@b\0Tc@d\0\0"),
    (("sh", "-c", "tr x X <&3 >&4", "--", "sh", "-c", 'echo "$QMAILHOST"'), b"X\n", b"Fs@X\0Ta@b\0Tc@d\0\0"),
    (("sed", "d"), MESSAGE, ENVELOPE),
    (("sh", "-c", 'echo "$NUMRCPTS $MSGSIZE $ENVSIZE $QMAILPPID $PPID"'), None, ENVELOPE),
]


@pytest.mark.parametrize(("words", "message", "envelope"), PASSED)
def test_what_passes_goes_to_the_queue_program(
    house: House, words: tuple[str, ...], message: bytes | None, envelope: bytes
) -> None:
    assert house.queue("qmail-qfilter", *words) == (0, b"", b"")
    assert house.out("envelope") == envelope
    if message is not None:
        assert house.out("message") == message
    else:
        told = re.fullmatch(rb"2 17 16 (\d+) (\d+)\n", house.out("message") or b"")
        assert told is not None and int(told[1]) == os.getpid() != int(told[2]), "who gave us the message"
    assert house.out("argv") == bytes(house.path / "catcher") + b" \n"


STOPPED = [
    (("false",), 1, b""),
    (("sh", "-c", "exit 31", "--", "sh", "-c", 'touch "$CAUGHT/second"'), 31, b""),
    (("sh", "-c", "exit 99", "--", "sh", "-c", 'touch "$CAUGHT/second"'), 0, b""),
    (("sh", "-c", "exit 71"), 71, b""),
    (("sh", "-c", "exit 2"), 2, b""),
    (("sh", "-c", "exit 255"), 255, b""),
    (("sh", "-c", "kill -9 $$"), 81, b"qmail-qfilter: filter sh: killed by signal 9\n"),
    (("/no/such",), 81, b"qmail-qfilter: filter /no/such: cannot be run: No such file or directory\n"),
    (("--", "true"), 81, b"qmail-qfilter: there is no filter before a --\n"),
    (("true", "--", "--", "true"), 81, b"qmail-qfilter: there is no filter before a --\n"),
    (("sh", "-c", "printf junk >&4"), 91, b"qmail-qfilter: filter sh: wrote an envelope that is none\n"),
    (("sh", "-c", "echo why >&2; exit 31"), 31, b"why\n"),
]


@pytest.mark.parametrize(("words", "code", "log"), STOPPED)
def test_what_does_not_pass_reaches_no_queue_program(
    house: House, words: tuple[str, ...], code: int, log: bytes
) -> None:
    assert house.queue("qmail-qfilter", *words) == (code, b"", log)
    assert list(house.caught.iterdir()) == []


ENVELOPES = [
    (b"F\0\0", 0),
    (b"Fs@x\0Ta@b\0\0junk", 0),
    (b"", 54),  # a caller that gave up: its program writes no end
    (b"Fs@x", 54),
    (b"Fs@x\0Ta@b\0", 54),
    (b"X\0\0", 91),
    (b"Fs@x\0Xa\0\0", 91),
]


@pytest.mark.parametrize(("envelope", "code"), ENVELOPES)
def test_only_a_whole_envelope_is_filtered(house: House, envelope: bytes, code: int) -> None:
    assert house.queue("qmail-qfilter", "sh", "-c", 'touch "$CAUGHT/filter"', envelope=envelope) == (code, b"", b"")
    assert (house.out("filter"), house.out("envelope")) == ((b"", envelope) if code == 0 else (None, None))


@pytest.mark.parametrize("message", [b"", b"a\0b\r\n", b"no newline", b"S: x\n\n" + b"a" * 300_000])
def test_messages_pass_byte_for_byte(house: House, message: bytes) -> None:
    assert house.queue("qmail-qfilter", "cat", "--", "true", message=message)[0] == 0
    assert house.out("message") == message


def test_a_filter_s_own_text_goes_through_descriptor_6_and_nowhere_without_one(house: House) -> None:
    words = ("sh", "-c", "printf 'Dfrom filter' >&6; exit 82")
    assert house.queue("qmail-qfilter", *words) == (82, b"Dfrom filter", b"")
    code, custom, log = house.queue("qmail-qfilter", *words, has_text_pipe=False)
    assert (code, custom) == (82, b"") and b"6" in log, "the shell says that 6 is no descriptor"


def test_filters_find_the_descriptors_of_their_contract_and_no_other(house: House) -> None:
    words = ("sh", "-c", "for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && printf $n; done; true")
    assert house.queue("qmail-qfilter", *words)[0] == 0
    assert house.out("message") == b"0123456"


def test_the_message_is_a_file_that_can_be_read_twice(house: House) -> None:
    code = (
        "import os; a = os.read(0, 99); os.lseek(0, 0, 0); os.write(1, a + os.read(0, 99) + b'%d' % os.lseek(3, 0, 1))"
    )
    assert house.queue("qmail-qfilter", sys.executable, "-c", code)[0] == 0
    assert house.out("message") == MESSAGE + MESSAGE + b"0"


OTHERS = [
    ("printf '%s\\0' \"$CAUGHT/other\" >&5", "", 0),
    ("printf '%s' \"$CAUGHT/other\" >&5", "", 0),
    ("printf '%s\\0' \"$CAUGHT/other\" >&5", "cat <&5 | tr '\\0' . >&2", 0),
    ("printf '%s-and-longer\\0' \"$CAUGHT/other\" >&5", "printf '%s\\0' \"$CAUGHT/other\" >&5", 0),
    ("printf '/no/such\\0' >&5", "", 81),
    ("printf '\\0' >&5", "", 81),
]


@pytest.mark.parametrize(("first", "second", "code"), OTHERS)
def test_a_filter_may_name_the_program_that_queues_the_message(
    house: House, first: str, second: str, code: int
) -> None:
    other = script(house.caught / "other", CATCHER)
    words = ["sh", "-c", first] + (["--", "sh", "-c", second] if second else [])
    ended, _, log = house.queue("qmail-qfilter", *words)
    assert ended == code
    assert house.out("argv") == (b"%b \n" % bytes(other) if code == 0 else None)
    if "cat" in second:
        assert log == bytes(other) + b"."


QUEUE_PROGRAMS = [
    ({"QUEUE_EXIT": "53"}, 53),
    ({"QQF_QMAILQUEUE": "/no/such"}, 81),
    ({"QQF_QMAILQUEUE": ""}, 81),
    ({"QMAILQUEUE": "/no/such"}, 0),
]


@pytest.mark.parametrize(("environ", "code"), QUEUE_PROGRAMS)
def test_the_queue_program_s_code_is_the_answer(house: House, environ: dict[str, str], code: int) -> None:
    assert house.queue("qmail-qfilter", "cat", **environ)[0] == code


def test_without_any_word_about_it_qmail_queue_is_the_queue_program(house: House) -> None:
    assert house.queue("qmail-qfilter", "sed", "s/body/filtered/", without=("QQF_QMAILQUEUE",)) == (0, b"", b"")
    [(number, envelope)] = house.home.queued().items()
    assert envelope.endswith(b"Fs@x\0Ta@b\0Tc@d\0")
    assert house.home.message(number).endswith(b"Subject: x\n\nfiltered\n")
    (house.path / f"queue/todo/{number}").unlink()


def test_a_filter_that_hangs_is_killed_at_its_deadline(house: House) -> None:
    house.control("filtertimeout", "1")
    words = ("sh", "-c", "sleep 1000 & wait", "--", "touch", "never")
    assert house.queue("qmail-qfilter", *words) == (
        52, b"", b"qmail-qfilter: filter sh: still running after 1 seconds\n"
    )  # fmt: skip


def test_a_filter_that_floods_is_killed(house: House) -> None:
    assert house.queue("qmail-qfilter", "yes") == (53, b"", b"qmail-qfilter: filter yes: wrote too much\n")


def test_a_control_file_that_cannot_be_read_is_said(house: House) -> None:
    path = house.path / "control/filtertimeout"
    path.mkdir()
    try:
        code, _, log = house.queue("qmail-qfilter", "true")
    finally:
        path.rmdir()
    assert code == 55 and log.startswith(b"qmail-qfilter: unable to read control/filtertimeout")


@pytest.mark.parametrize("program", ["qmail-qfilter", "qmail-qfilter-queue", "qmail-rfilter", "qmail-lfilter"])
def test_help(house: House, program: str) -> None:
    done = subprocess.run([house.home.program(program), "--help"], capture_output=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.startswith(f"usage: {program}".encode())


# -- qmail-qfilter-queue ---------------------------------------------------------------------------------------------


def test_the_filters_of_smtpfilters_run_in_their_order_from_the_home(house: House) -> None:
    house.filter("one", "sed s/body/one/")
    house.control("smtpfilters", "# comment", "", "bin/one", "sed s/one/two/  ", "sed s/two/three/")
    assert house.queue("qmail-qfilter-queue") == (0, b"", b"")
    assert house.out("message") == b"Subject: x\n\nthree\n"


LISTS = [
    (None, {}, 0, b""),
    (["# nothing"], {}, 0, b""),
    (["/no/such"], {}, 81, b"cannot be run"),
    (["true"], {"QMAILQUEUEFILTERS": "control/smtpfilters"}, 0, b""),
    (["true"], {"QMAILQUEUEFILTERS": ""}, 55, b"unable to read the list"),
    (["true"], {"QMAILQUEUEFILTERS": "control/ofmipfilters"}, 55, b"unable to read the list"),
    (["false"], {"QMAILQUEUEFILTERS": "control/me"}, 81, b"cannot be run"),  # that list names a program `me.test`
]


@pytest.mark.parametrize(("lines", "environ", "code", "log"), LISTS)
def test_the_list_of_filters(
    house: House, lines: list[str] | None, environ: dict[str, str], code: int, log: bytes
) -> None:
    if lines is not None:
        house.control("smtpfilters", *lines)
    ended, _, said = house.queue("qmail-qfilter-queue", **environ)
    assert ended == code and log in said
    assert (house.out("message") is not None) == (code == 0)


def test_a_qmail_qfilter_that_is_not_ours_is_given_the_list_as_arguments(house: House) -> None:
    house.control("smtpfilters", "bin/one", "two x")
    own = house.path / "bin/qmail-qfilter"
    kept = own.read_bytes()
    try:
        script(own, 'echo "$0 $*" >"$CAUGHT/argv"; exit 31')
        assert house.queue("qmail-qfilter-queue")[0] == 31
        own.chmod(0o644)
        assert house.queue("qmail-qfilter-queue")[0] == 71
    finally:
        own.write_bytes(kept)
        own.chmod(0o755)
    assert house.out("argv") == bytes(own) + b" bin/one -- two x --\n"


# -- within qmail-smtpd ----------------------------------------------------------------------------------------------


def smtp(house: House, **environ: str) -> list[bytes]:
    """What a one-shot qmail-smtpd answers to a message's last dot and after it."""
    dialogue = b"HELO c\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a@b>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n"
    done = subprocess.run(
        [house.home.program("qmail-smtpd")], input=dialogue, capture_output=True, timeout=DEADLINE_S, check=False,
        env={**house.environ, "RELAYCLIENT": "", "QMAILQUEUE": "bin/qmail-qfilter-queue", **environ},
    )  # fmt: skip
    return done.stdout.split(b"\r\n")[5:]


ANSWERS = [
    ("exit 31", b"554 mail server permanently rejected message (#5.3.0)"),
    ("exit 71", b"451 mail server temporarily rejected message (#4.3.0)"),
    ("exit 111", b"451 qq temporary problem (#4.3.0)"),
    ("kill -9 $$", b"451 qq internal bug (#4.3.0)"),
    ("printf 'Dfrom filter' >&6; exit 82", b"554 from filter"),
    ("printf 'Zcome back' >&6; exit 82", b"451 come back"),
    ("printf 'Dtwo\\nlines' >&6; exit 82", b"554 two?lines"),
    ("exit 82", b"451 qq temporary problem (#4.3.0)"),
    ("printf 'Dignored' >&6; exit 31", b"554 mail server permanently rejected message (#5.3.0)"),
]


@pytest.mark.parametrize(("text", "answer"), ANSWERS)
def test_a_filter_s_refusal_is_the_reply_to_the_client(house: House, text: str, answer: bytes) -> None:
    house.control("smtpfilters", house.filter("refuse", text), "touch control/never")
    replies = smtp(house)
    assert replies[0] == answer and replies[1].startswith(b"221")
    assert house.out("message") is None and not (house.path / "control/never").exists()


@pytest.mark.parametrize(("text", "queued"), [("sed s/body/BODY/", True), ("exit 99", False)])
def test_a_filter_that_agrees_or_drops_is_250_to_the_client(house: House, text: str, queued: bool) -> None:
    house.control("smtpfilters", house.filter("agree", text))
    replies = smtp(house)
    assert re.fullmatch(rb"250 ok \d+ qp \d+", replies[0])
    assert (house.out("message") or b"").endswith(b"\n\nBODY\n") is queued
    assert house.out("envelope") == (b"Fs@x\0Ta@b\0\0" if queued else None)


def test_a_process_that_keeps_descriptor_6_does_not_hold_up_the_reply(house: House) -> None:
    pid_file = house.caught / "pid"
    text = f"sleep 1000 2>&1 & echo $! >{pid_file}; printf 'Dno thanks (#5.7.1)' >&6; exit 82"
    house.control("smtpfilters", house.filter("lingering", text))
    try:
        replies = smtp(house)
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)  # it was alive to the end
    assert replies[0] == b"554 no thanks (#5.7.1)"


def test_a_filter_in_the_place_of_qmail_queue_is_not_passed_over(house: House) -> None:
    """`bin/qmail-queue` as a copy of our qmail-qfilter-queue is a wrapper as good as any other."""
    house.control("smtpfilters", house.filter("refuse", "exit 31"))
    own = house.path / "bin/qmail-queue"
    kept = own.read_bytes()
    try:
        own.write_bytes((house.path / "bin/qmail-qfilter-queue").read_bytes())
        done = subprocess.run(
            [house.home.program("qmail-inject"), "a@b"], input=b"\n", capture_output=True, timeout=DEADLINE_S,
            env=house.environ, check=False,
        )  # fmt: skip
    finally:
        own.write_bytes(kept)
    assert done.returncode == 100 and b"permanently rejected" in done.stderr


# -- qmail-rfilter under qmail-rspawn --------------------------------------------------------------------------------


def test_without_a_list_of_filters_qmail_remote_is_run_as_ever(house: House) -> None:
    assert house.remote() == b"K250 ok\naccepted\n"
    assert house.out("argv") == b"y.example|s@x.example|r@y.example|"
    assert house.out("message") == MESSAGE


def test_filters_change_what_goes_out_and_the_queue_keeps_what_came(house: House) -> None:
    house.control("remotefilters", "sed s/body/once/", "x.example: sed s/once/twice/", "y.example: sed s/twice/never/")
    assert house.remote() == b"K250 ok\naccepted\n"
    assert house.out("message") == b"Subject: x\n\ntwice\n"
    assert (house.path / "queue/mess/3/3").read_bytes() == MESSAGE


def test_a_filter_may_change_the_sender_and_nobody_else(house: House) -> None:
    rewrite = house.filter("srs", r"printf 'FSRS0=a=b=c=s@me.test\0Tr@y.example\0\0' >&4")
    house.control(
        "remotefilters", rewrite, "sh " + house.filter("show", 'echo "$QMAILUSER $_SENDER $_RECIPIENT $DOMAIN"')
    )
    assert house.remote() == b"K250 ok\naccepted\n"
    assert house.out("argv") == b"y.example|SRS0=a=b=c=s@me.test|r@y.example|"
    assert house.out("message") == b"SRS0=a=b=c=s s@x.example r@y.example x.example\n"
    house.control("remotefilters", house.filter("other", r"printf 'Fs@x\0Tsomebody@else\0\0' >&4"))
    assert house.remote() == (
        b"ZMessage filter other: changed the recipients, which is too late here. (#4.3.0)\n"
    )  # fmt: skip


OUTCOMES = [
    ("exit 2", b"KDropped by the message filter f."),
    ("exit 99", b"KDropped by the message filter f."),
    ("exit 100", b"DRefused by the message filter f. (#5.7.1)"),
    ("exit 1", b"ZMessage filter f: exit code 1. (#4.3.0)"),
    ("exit 111", b"ZMessage filter f: exit code 111. (#4.3.0)"),
    ("exit 31", b"ZMessage filter f: exit code 31. (#4.3.0)"),
    ("kill -9 $$", b"ZMessage filter f: killed by signal 9. (#4.3.0)"),
    ("sed s/body/x/; exit 3", b"ZMessage filter f: exit code 3. (#4.3.0)"),
    ("printf 'Dtoo odd (#5.6.0)' >&6; exit 82", b"Dtoo odd (#5.6.0)"),
    ("printf 'Zlater' >&6; exit 82", b"Zlater"),
    ("exit 82", b"ZMessage filter f: exit code 82. (#4.3.0)"),
    ("printf junk >&4", b"ZMessage filter f: wrote an envelope that is none. (#4.3.0)"),
    ("exec yes", b"ZMessage filter f: wrote too much. (#4.3.0)"),
    ("exec no-such-program", b"ZMessage filter f: exit code 127. (#4.3.0)"),
]


@pytest.mark.parametrize(("text", "report"), OUTCOMES)
def test_what_a_filter_s_end_means_to_a_delivery(house: House, text: str, report: bytes) -> None:
    house.control("remotefilters", house.filter("f", text))
    house.control("localfilters", house.filter("f", text))
    assert house.remote().rstrip(b"\n") == report
    assert house.local().rstrip(b"\n") == report
    assert house.out("argv") is None, "qmail-remote and qmail-local were not run"


LISTS_OF_NO_USE = [
    (["/no/such/program"], b"ZMessage filter program: cannot be run: No such file or directory. (#4.3.0)\n"),
    (["x.example:"], b"ZUnable to read the list of filters. (#4.3.0)\n"),
    (["me.test:"], b"ZUnable to read the list of filters. (#4.3.0)\n"),
]


@pytest.mark.parametrize(("lines", "report"), LISTS_OF_NO_USE)
def test_a_mistake_in_the_list_puts_mail_off(house: House, lines: list[str], report: bytes) -> None:
    house.control("remotefilters", *lines)
    house.control("localfilters", *lines)
    assert house.remote() == house.local() == report


def test_a_list_that_cannot_be_read_puts_mail_off(house: House) -> None:
    path = house.path / "control/remotefilters"
    path.mkdir()
    try:
        assert house.remote() == b"ZUnable to read the list of filters. (#4.3.0)\n"
    finally:
        path.rmdir()


def test_a_hanging_filter_puts_mail_off_at_its_deadline(house: House) -> None:
    house.control("filtertimeout", "1")
    house.control("remotefilters", house.filter("f", "sleep 1000 & wait"))
    house.control("localfilters", house.filter("f", "sleep 1000 & wait"))
    report = b"ZMessage filter f: still running after 1 seconds. (#4.3.0)\n"
    assert house.remote() == house.local() == report


def test_what_filters_complain_goes_to_the_log_and_not_into_the_report(house: House) -> None:
    house.control("remotefilters", house.filter("f", "printf 'one \\033[1m\\ntwo' >&2"), house.filter("g", "exit 5"))
    assert house.remote() == b"ZMessage filter g: exit code 5. (#4.3.0)\n"
    name = bytes(house.path / "bin/f")
    assert house.log == b"qmail-rfilter: %b: one ?[1m\nqmail-rfilter: %b: two\n" % (name, name)


def test_no_complaint_of_a_program_in_qmail_remote_s_place_spoils_its_report(house: House) -> None:
    """In C the same wrapper's success became Z, its text cut: descriptor 2 was the report's pipe."""
    wrapper = script(house.caught / "wrap", r"echo stderr-noise >&2; printf 'r250 ok\n\0Kaccepted\n\0'")
    assert house.remote(QMAILREMOTE=str(wrapper)) == b"K250 ok\naccepted\n"
    assert house.log == b"stderr-noise\n"


def test_a_spawner_without_a_log_runs_filters_all_the_same(house: House) -> None:
    """C's qmail-start closes descriptor 2 of qmail-rspawn."""
    house.control("remotefilters", house.filter("f", "echo nobody hears this >&2; sed s/body/b/"))
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" 2>&-', house.home.program("qmail-rspawn")],
        input=Delivery(3, b"3/3", b"s@x", b"r@y").encode(), stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True,
        env={**house.environ, "QMAILREMOTE": house.home.program("qmail-rfilter"), "DELIVERER_SAYS": r"Kaccepted\n\0"},
    )  # fmt: skip
    assert dict(ReportReader().receive(done.stdout[1:]))[3].encode() == b"Kaccepted\n"
    assert house.out("message") == b"Subject: x\n\nb\n"


HAS_LOG = "from notqmail.deliver.filters import _has_log; import os; os.write(1, b'%d' % _has_log())"


@pytest.mark.parametrize(("shell", "answer"), [("2>/dev/null", b"1"), ("2>&1", b"0"), ("2>&-", b"0")])
def test_the_report_s_pipe_and_a_closed_descriptor_are_no_log(shell: str, answer: bytes) -> None:
    command = ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-c", HAS_LOG]
    assert subprocess.run(command, stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True).stdout == answer


def test_where_there_is_no_log_the_system_s_log_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[object, ...]] = []
    monkeypatch.setattr(filters, "_has_log", lambda: False)
    monkeypatch.setattr(syslog, "openlog", lambda *words: said.append(words))
    monkeypatch.setattr(syslog, "syslog", lambda *words: said.append(words))
    filters.complain_apart(filters.LOCAL, b"bin/x: odd \x1b\xff%s")
    assert said == [("qmail-lfilter", syslog.LOG_PID, syslog.LOG_MAIL), (syslog.LOG_INFO, "bin/x: odd ??%s")]


def test_a_missing_qmail_remote_behind_the_filters_puts_mail_off(house: House) -> None:
    house.control("remotefilters", "true")
    assert house.remote(QREMOTE="/no/such") == b"ZUnable to run qmail-remote. (#4.3.0)\n"
    assert house.local(QLOCAL="/no/such") == b"ZUnable to run qmail-local. (#4.3.0)\n"


def test_filters_in_the_place_of_the_real_program_do_not_run_themselves_for_ever(house: House) -> None:
    house.control("remotefilters", "true")
    house.control("localfilters", "true")
    unable = b"ZUnable to read the list of filters. (#4.3.0)\n"
    assert house.remote(QREMOTE=house.home.program("qmail-rfilter")) == unable
    assert b"set QREMOTE to the real one" in house.log
    assert house.local(QLOCAL=house.home.program("qmail-lfilter")) == unable


def test_a_bounce_has_no_domain(house: House) -> None:
    house.control("remotefilters", "x.example:false", "y.example:false", "sed s/body/b/")
    assert house.remote(sender=b"") == b"K250 ok\naccepted\n"
    assert (house.out("argv"), house.out("message")) == (b"y.example||r@y.example|", b"Subject: x\n\nb\n")


def test_a_message_that_is_no_file_is_made_one(house: House) -> None:
    house.control("remotefilters", "true")
    done = subprocess.run(
        [house.home.program("qmail-rfilter"), "y.example", "s@x", "r@y.example", "q@y.example"], input=MESSAGE,
        env={**house.environ, "DELIVERER_SAYS": "K"}, capture_output=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert (done.stdout, house.out("message")) == (b"K", MESSAGE)
    assert house.out("argv") == b"y.example|s@x|r@y.example|q@y.example|"


def test_what_is_no_delivery_is_left_to_the_real_program(house: House) -> None:
    house.control("remotefilters", "false")
    house.control("localfilters", "false")
    for program, words in (("qmail-rfilter", ["y"]), ("qmail-lfilter", ["-n", *"abcdefgh"]), ("qmail-lfilter", ["x"])):
        done = subprocess.run(
            [house.home.program(program), *words], input=b"", env={**house.environ, "DELIVERER_SAYS": "run"},
            capture_output=True, timeout=DEADLINE_S, check=True,
        )  # fmt: skip
        assert done.stdout == b"run"
        assert house.out("argv") == "".join(f"{word}|" for word in words).encode()


# -- qmail-lfilter under qmail-lspawn --------------------------------------------------------------------------------


def test_local_filters_are_chosen_by_the_recipient_s_domain(house: House) -> None:
    house.control("localfilters", "sed s/body/once/", "me.test:sed s/once/twice/", "x.example:sed s/twice/never/")
    assert house.local() == b"Kdid it\n"
    assert house.out("message") == b"Subject: x\n\ntwice\n"
    argv = f"--|{LOGIN}|{house.path}|{LOGIN}-ext|-|ext|me.test|s@x.example|./Maildir/|".encode()
    assert house.out("argv") == argv


def test_a_local_filter_may_change_the_sender(house: House) -> None:
    house.control("localfilters", house.filter("f", f"printf 'Fnew@x\\0T{LOGIN}-ext@me.test\\0\\0' >&4; echo $_EXT"))
    assert house.local() == b"Kdid it\n"
    assert (house.out("argv") or b"").endswith(b"|me.test|new@x|./Maildir/|")
    assert house.out("message") == b"ext\n"


def test_filtered_mail_reaches_the_maildir(house: House) -> None:
    house.control("localfilters", "sed s/body/filtered/")
    real = house.home.program("qmail-local")
    assert house.local(recipient=f"{LOGIN}@me.test".encode(), QLOCAL=real) == b"Kdid 1+0+0\n"
    [content] = house.home.new_mail()
    assert content == b"Return-Path: <s@x.example>\nDelivered-To: %b@me.test\nSubject: x\n\nfiltered\n" % LOGIN.encode()


def test_a_filter_in_the_place_of_qmail_local_or_qmail_remote_is_not_passed_over(house: House) -> None:
    house.control("localfilters", house.filter("f", "exit 5"))
    house.control("remotefilters", house.filter("f", "exit 5"))
    kept = {name: (house.path / "bin" / name).read_bytes() for name in ("qmail-local", "qmail-remote")}
    try:
        for name in kept:
            (house.path / "bin" / name).write_bytes((house.path / f"bin/{name[:6]}{name[6]}filter").read_bytes())
        environ = {**house.environ, "PATH": f"{house.path}/bin:{os.environ['PATH']}"}
        delivery = Delivery(3, b"3/3", b"s@x", f"{LOGIN}@me.test".encode())
        [local], _ = house.spawn([house.home.program("qmail-lspawn"), "./Maildir/"], delivery, **environ)
        [remote], _ = house.spawn([house.home.program("qmail-rspawn")], delivery, **environ)
    finally:
        for name, content in kept.items():
            (house.path / "bin" / name).write_bytes(content)
    assert local == remote == b"ZMessage filter f: exit code 5. (#4.3.0)\n"
