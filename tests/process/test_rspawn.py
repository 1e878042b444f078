"""qmail-rspawn as a program: deliveries of its own agent and of a foreign qmail-remote, many at a time."""

import os
import socket
import stat
import subprocess
import sys

import pytest
from queue_home import until
from remote_peer import CLOSE, SILENCE, FullHouse, ScriptedPeer

from notqmail.testing.dns_server import FakeDnsServer
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.spawn_link import Delivery, ReportReader
from notqmail.wire.wide_link import (
    ASKING_SLOT,
    WideReportReader,
    encode_command,
    place_of,
    question,
    terms_from,
)

MESSAGE = b"Subject: x\n\nhello\n"
ESMTP = b"250-peer\r\n250-PIPELINING\r\n250 SIZE\r\n"
ACCEPTED = success(b"127.0.0.1 accepted message.\nRemote host said: 250 ok\n")


@pytest.fixture
def home(tmp_path):
    for directory in ("control", "queue/lock", "queue/mess/3", "bin"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "queue/lock/tcpto").write_bytes(b"\x01" * 1024)
    (tmp_path / "control/me").write_text("me.example\n")
    (tmp_path / "control/timeoutremote").write_text("60\n")
    (tmp_path / "queue/mess/3/7").write_bytes(MESSAGE)
    return tmp_path


START = (
    "import sys; sys.modules.update(dict.fromkeys({without}));"
    "from notqmail.programs.qmail_rspawn import start; start()"
)  # a module that is None there cannot be imported


class Spawner:
    """A running qmail-rspawn, as qmail-send sees it; a context manager that expects it to leave in peace."""

    def __init__(self, home, *, without=(), **environ):
        path = str(home / "bin") + ":/usr/bin:/bin"
        self._process = subprocess.Popen(
            [sys.executable, "-c", START.format(without=list(without))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "QMAILHOME": str(home), "DNSCACHEIP": "127.0.0.1:9", "PATH": path, **environ},
        )  # fmt: skip
        self.pid = self._process.pid
        self._reader = ReportReader()
        self._early = []
        self.complaints = b""

    def __enter__(self):
        assert self._process.stdout.read(1) == b"\x78"  # 120 slots
        return self

    def __exit__(self, kind, *_):
        try:
            self._process.stdin.close()
            self.rest = self._process.stdout.read()
            self.complaints = self._process.stderr.read()
            assert self._process.wait(60) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process.stderr.close()

    def command(self, slot, recipient=b"r@y.example", *, message=b"3/7", sender=b"s@x"):
        self.raw(Delivery(slot, message, sender, recipient).encode())

    def raw(self, data):
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def hang_up(self):
        self._process.stdin.close()

    def reports(self, count):
        """The next `count` reports, by slot."""
        found = self._early
        while len(found) < count:
            data = os.read(self._process.stdout.fileno(), 65_536)
            assert data, "the spawner left"
            found += self._reader.receive(data)
        self._early = found[count:]
        return dict(found[:count])

    def deliver(self, **how):
        self.command(5, **how)
        return self.reports(1)[5]


def route(home, *peers):
    (home / "control/smtproutes").write_text("".join(f"{key}:127.0.0.1:{peer.port}\n" for key, peer in peers))


def listens(port):
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def program(home, text, name="qmail-remote"):
    path = home / "bin" / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_a_delivery(home):
    with ScriptedPeer({b"EHLO": ESMTP}) as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        assert spawner.deliver() == ACCEPTED
        assert peer.bodies == [MESSAGE.replace(b"\n", b"\r\n")]
        assert peer.wait_until_heard(b"QUIT")
    assert spawner.rest == b"" and spawner.complaints == b""
    assert (home / "queue/lock/tcpto").read_bytes() == bytes(1024)


def test_slot_nought_and_a_command_cut_anywhere(home):
    with ScriptedPeer() as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        for byte in Delivery(0, b"3/7", b"s@x", b"r@y").encode():
            spawner.raw(bytes([byte]))
        assert spawner.reports(1) == {0: ACCEPTED}


DISLIKED = b"127.0.0.1 does not like recipient.\nRemote host said: %b no\nGiving up on 127.0.0.1.\n"
SENDER_REJECTED = b"Connected to 127.0.0.1 but sender was rejected.\nRemote host said: 550 no\n"
DIED = b"Connected to 127.0.0.1 but connection died. %b(#4.4.2)\n"


@pytest.mark.parametrize(
    ("answers", "report"),
    [
        ({b"RCPT": b"550 no\r\n"}, permanent(DISLIKED % b"550")),
        ({b"RCPT": b"450 no\r\n"}, temporary(DISLIKED % b"450")),
        ({b"MAIL": b"550 no\r\n"}, permanent(SENDER_REJECTED)),
        ({b"": b"421 no\r\n"}, temporary(b"Connected to 127.0.0.1 but greeting failed.\nRemote host said: 421 no\n")),
        ({b"": CLOSE}, temporary(DIED % b"")),
        ({b".": CLOSE}, temporary(DIED % b"Possible duplicate! ")),
        ({b".": b"554 no\r\n"}, permanent(b"127.0.0.1 failed after I sent the message.\nRemote host said: 554 no\n")),
    ],
)
@pytest.mark.parametrize("extensions", [b"502 what?\r\n", ESMTP])
def test_what_the_server_says_is_what_qmail_send_hears(home, answers, report, extensions):
    with ScriptedPeer({b"EHLO": extensions, **answers}) as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        assert spawner.deliver() == report


def test_a_byte_by_byte_server_and_one_that_greets_before_we_listen(home):
    with ScriptedPeer({b"EHLO": ESMTP}, byte_by_byte=True) as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        for slot in range(30):
            spawner.command(slot)
        assert set(spawner.reports(30).values()) == {ACCEPTED}
        assert peer.bodies == [MESSAGE.replace(b"\n", b"\r\n")] * 30


def test_a_hundred_deliveries_at_once_are_each_answered_once(home):
    with ScriptedPeer({b"EHLO": ESMTP}) as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        for slot in range(120):
            spawner.command(slot, recipient=b"r%d@y.example" % slot)
        assert set(spawner.reports(120)) == set(range(120))
        assert peer.connections == 120
    assert spawner.rest == b""


class WideSpawner(Spawner):
    """The same, with the wide link."""

    def __enter__(self):
        super().__enter__()
        self.raw(question())
        self.terms = terms_from(self.reports(1)[ASKING_SLOT])
        self._reader = WideReportReader()
        return self

    def commands(self, slot, *recipients, sender=b"s@x"):
        self.raw(encode_command(Delivery(slot, b"3/7", sender, *recipients)))

    def delivered(self, slot, *recipients, sender=b"s@x"):
        """The reports, in the order of the recipients."""
        self.commands(slot, *recipients, sender=sender)
        found = self.reports(len(recipients))
        return [found[place_of(slot, index)] for index in range(len(recipients))]


RECIPIENTS = [b"r%d@y.example" % number for number in range(5)]


def test_recipients_of_one_command_ride_in_one_transaction_and_are_reported_each(home):
    answers = {b"RCPT TO:<r1@y.example>": b"550 no\r\n", b"RCPT TO:<r3@y.example>": b"450 later\r\n"}
    with ScriptedPeer({b"EHLO": ESMTP, **answers}) as peer, WideSpawner(home) as spawner:
        route(home, ("", peer))
        reports = spawner.delivered(300, *RECIPIENTS)
        assert (spawner.terms.slots, spawner.terms.recipients) == (1_000, 100)
        assert [report.kind for report in reports] == [b"K", b"D", b"K", b"Z", b"K"]
        assert reports[0] == ACCEPTED and reports[1] == permanent(DISLIKED % b"550")
        assert peer.connections == 1 and len(peer.bodies) == 1
    assert spawner.complaints == b""


def test_whom_the_peer_finds_too_many_are_sent_to_at_once_in_another_transaction(home):
    many = {b"RCPT TO:<%b>" % recipient: [b"452 too many\r\n", b"250 ok\r\n"] for recipient in RECIPIENTS[2:4]}
    many[b"RCPT TO:<r4@y.example>"] = [b"552 too many\r\n", b"452 too many\r\n", b"552 no\r\n"]
    with ScriptedPeer({b"EHLO": ESMTP, **many}) as peer, WideSpawner(home) as spawner:
        route(home, ("", peer))
        reports = spawner.delivered(0, *RECIPIENTS)
        assert [report.kind for report in reports] == [b"K", b"K", b"K", b"K", b"D"], "alone it is a refusal"
        sent = MESSAGE.replace(b"\n", b"\r\n")
        assert peer.wait_until_heard(b"QUIT")
        assert peer.connections == 1 and peer.bodies == [sent, sent, b""], "this peer takes DATA even for nobody"
        assert peer.heard.count(b"MAIL FROM:<s@x> SIZE=18") == 3


@pytest.mark.parametrize("many", ["550 5.5.3 Too many recipients", "571 sorry, reached maximum number of recipients",
                                  "554 5.5.3", "451 4.5.3 too many", "452 4.5.3 too many", "550 no"])  # fmt: skip
def test_however_a_server_says_too_many_they_are_asked_again_before_it_is_believed(home, many):
    recipients = [b"r%d@y.example" % number for number in range(7)]
    says = {b"RCPT TO:<%b>" % recipient: [*[many.encode() + b"\r\n"] * (at // 3), b"250 ok\r\n"]
            for at, recipient in enumerate(recipients)}  # fmt: skip
    with ScriptedPeer({b"EHLO": ESMTP, **says}) as peer, WideSpawner(home) as spawner:
        route(home, ("", peer))
        assert [report.kind for report in spawner.delivered(0, *recipients)] == [b"K"] * 7
        assert len(peer.bodies) == 3 and peer.connections == 1


def test_who_has_the_message_is_reported_while_the_others_are_still_asked(home):
    answers = {b"RCPT TO:<r1@y.example>": [b"452 too many\r\n", SILENCE]}
    with ScriptedPeer({b"EHLO": ESMTP, **answers}) as peer, WideSpawner(home) as spawner:
        route(home, ("", peer))
        spawner.commands(0, *RECIPIENTS[:2])
        assert spawner.reports(1) == {0: ACCEPTED}
        peer.lose_patience()
        assert spawner.reports(1)[place_of(0, 1)].kind == b"Z"


@pytest.mark.parametrize("end", [CLOSE, b"451 later\r\n", b"554 never\r\n"])
def test_whom_the_peer_found_too_many_wait_when_the_message_is_not_taken(home, end):
    answers = {b"RCPT TO:<r1@y.example>": b"552 too many\r\n", b".": end}
    with ScriptedPeer({b"EHLO": ESMTP, **answers}) as peer, WideSpawner(home) as spawner:
        route(home, ("", peer))
        reports = spawner.delivered(0, *RECIPIENTS[:2])
        assert reports[1].kind == b"Z" and reports[0].kind == (b"D" if end[:1] == b"5" else b"Z")
        assert peer.connections == 1


def test_a_wide_command_that_cannot_be_is_answered_for_each_recipient(home):
    with WideSpawner(home) as spawner:
        assert [report.kind for report in spawner.delivered(1, b"a@x", b"b@y")] == [b"Z", b"Z"], "two hosts"
        assert [report.kind for report in spawner.delivered(1, b"nohost", b"a@x")] == [b"D", b"D"]
        assert {report.text for report in spawner.delivered(60_000, b"a@x", b"b@x")} == {
            b"Internal error: delnum too big. (#4.3.5)\n"
        }


def test_a_foreign_qmail_remote_is_run_for_each_recipient_of_a_command(home):
    program(home, 'echo "$3" >>../../log; cat >>../../log; printf "r\\0Kyes $3\\0"\n')
    with WideSpawner(home) as spawner:
        assert spawner.terms.recipients == 1, "so that each has a slot of its own"
        reports = spawner.delivered(0, *RECIPIENTS[:2])
        assert reports == [success(b"yes r0@y.example"), success(b"yes r1@y.example")]
    each = [recipient + b"\n" + MESSAGE for recipient in RECIPIENTS[:2]]
    assert (home / "log").read_bytes() == b"".join(each)


def test_a_server_that_never_answers_costs_only_its_own_slot(home):
    with ScriptedPeer({b"MAIL": SILENCE}) as deaf, ScriptedPeer() as peer, Spawner(home) as spawner:
        route(home, ("deaf", deaf), ("", peer))
        spawner.command(1, recipient=b"r@deaf")
        spawner.command(2)
        assert spawner.reports(1) == {2: ACCEPTED}
        deaf.lose_patience()
        assert spawner.reports(1) == {1: temporary(b"Connected to 127.0.0.1 but connection died. (#4.4.2)\n")}


def test_a_connection_that_times_out_is_remembered_and_the_others_go_on(home, free_port):
    (home / "control/timeoutconnect").write_text("5\n")  # time enough for those who do answer
    with FullHouse() as house, ScriptedPeer() as peer, Spawner(home) as spawner:
        route(home, ("full", house), ("", peer))
        with open(home / "control/smtproutes", "a") as routes:
            routes.write(f"closed:127.0.0.1:{free_port}\nnoport:127.0.0.1:99999\nsix:[IPv6:::1]:{free_port}\n")
        hosts = [b"full", b"closed", b"noport", b"six", b"y"]
        for slot, host in enumerate(hosts):
            spawner.command(slot, recipient=b"r@" + host)
        reports = spawner.reports(5)
        assert reports.pop(4) == ACCEPTED
        assert {report.text[-10:] for report in reports.values()} == {b" (#4.4.1)\n"}
        assert (home / "queue/lock/tcpto").read_bytes()[:5] == bytes([127, 0, 0, 1, 1])


def test_a_busy_slot_is_refused_and_its_delivery_goes_on(home):
    with ScriptedPeer({b"": SILENCE}) as deaf, Spawner(home) as spawner:
        route(home, ("", deaf))
        spawner.command(9)
        spawner.command(9)
        spawner.command(120)
        first = spawner.reports(2)
        assert first[9].text == b"Internal error: delnum in use. (#4.3.5)\n"
        assert first[120].text == b"Internal error: delnum too big. (#4.3.5)\n"
        deaf.lose_patience()
        assert b"connection died" in spawner.reports(1)[9].text


def test_at_the_end_of_commands_the_deliveries_under_way_are_finished(home):
    (home / "control/timeoutremote").write_text("1\n")
    with ScriptedPeer({b"": SILENCE}) as deaf, Spawner(home) as spawner:
        route(home, ("", deaf))
        spawner.command(9)
        spawner.hang_up()
        assert b"connection died" in spawner.reports(1)[9].text


def test_commands_that_cannot_be(home):
    with Spawner(home) as spawner:
        assert b"must include host name" in spawner.deliver(recipient=b"nobody").text
        assert b"unable to open message" in spawner.deliver(message=b"3/8").text
        assert b"nonnumerics" in spawner.deliver(message=b"../x").text


def test_names_are_looked_up_and_found_again_without_asking(home):
    with FakeDnsServer() as dns, ScriptedPeer() as peer:
        dns.records("relay.example", "A", "127.0.0.1")
        dns.records("null.example", "MX", "0 .")
        (home / "control/smtproutes").write_text(f"y.example:relay.example:{peer.port}\n")
        with Spawner(home, DNSCACHEIP=f"127.0.0.1:{dns.address[1]}") as spawner:
            assert [spawner.deliver() for _ in range(5)] == [ACCEPTED] * 5
            assert b"(#5.1.10)" in spawner.deliver(recipient=b"r@null.example").text
            assert dns.questions.count(("relay.example", "A", "udp")) == 1


def test_it_works_without_uvloop(home):
    with ScriptedPeer({b"EHLO": ESMTP}) as peer, ScriptedPeer({b".": CLOSE}) as rude:
        route(home, ("rude", rude), ("", peer))
        (home / "queue/mess/3/8").write_bytes(b"Subject: long\n\n" + (b"." * 70 + b"\n") * 50_000)
        with Spawner(home, without=["uvloop"]) as spawner:
            for slot in range(20):
                spawner.command(slot, message=b"3/8" if slot % 5 == 0 else b"3/7")
            assert set(spawner.reports(20).values()) == {ACCEPTED}
            assert spawner.deliver(recipient=b"r@rude") == temporary(DIED % b"Possible duplicate! ")
        assert spawner.complaints == b""


@pytest.mark.debian("smtp-sink")
@pytest.mark.parametrize(
    "options", [[], ["-p"], ["-e"], ["-8"]], ids=["all", "no pipelining", "no ehlo", "no 8bitmime"]
)
def test_postfix_smtp_sink_takes_everything(home, free_port, options):
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = ["smtp-sink", *user, *options, "-4", f"127.0.0.1:{free_port}", "100"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as sink:
        try:
            until(lambda: listens(free_port))  # the sink cannot tell us when
            (home / "control/smtproutes").write_text(f":127.0.0.1:{free_port}\n")
            with Spawner(home) as spawner:
                for slot in range(50):
                    spawner.command(slot)
                reports = spawner.reports(50).values()
                assert {report.kind for report in reports} == {b"K"}
                assert all(report.text.startswith(b"127.0.0.1 accepted message.") for report in reports)
                assert not any(b"354" in report.text for report in reports)
        finally:
            sink.terminate()


def test_a_long_message_goes_out_whole_and_is_never_whole_in_memory(home):
    body = b"Subject: long\n\n" + (b"." + b"x" * 71 + b"\n") * 600_000
    (home / "queue/mess/3/7").write_bytes(body)
    with ScriptedPeer({b"EHLO": ESMTP}) as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        assert spawner.deliver() == ACCEPTED
        with open(f"/proc/{spawner.pid}/status") as status:
            [peak_kb] = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
        assert peer.bodies == [body.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")]
        assert peak_kb < 80_000, "the message is 44 MB, the interpreter with its libraries about 40"


def test_a_partial_last_line(home):
    (home / "queue/mess/3/7").write_bytes(b"x")
    with ScriptedPeer({b"EHLO": ESMTP}) as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        assert spawner.deliver() == permanent(b"SMTP cannot transfer messages with partial final lines. (#5.6.2)\n")
        assert b"DATA" not in peer.heard


def test_no_dns_and_no_controls_are_temporary(home):
    with Spawner(home) as spawner:
        assert spawner.deliver() == temporary(b"Sorry, I couldn't find any host by that name. (#4.1.2)\n")
    (home / "control/me").unlink()
    with Spawner(home) as spawner:
        assert spawner.deliver() == temporary(b"Unable to read control files. (#4.3.0)\n")


def test_a_foreign_qmail_remote_is_executed_as_the_contract_says(home):
    program(
        home, 'printf "r\\0K%s|%s|%s|%s|%s\\n\\0" "$#" "$1" "$2" "$3" "$(pwd -P)"; cat >"$QMAILHOME/got"; echo >&2 late'
    )
    with Spawner(home) as spawner:
        report = spawner.deliver(sender=b"s p@x", recipient=b"a@b@y.example")
    assert report == success(b"3|y.example|s p@x|a@b@y.example|%b\n" % os.fsencode((home / "queue/mess").resolve()))
    assert (home / "got").read_bytes() == MESSAGE


def test_our_own_launcher_is_not_executed(home):
    program(home, "# notqmail-python launcher\nexit 1\n")
    with ScriptedPeer() as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        assert spawner.deliver() == ACCEPTED


def test_qmailremote_goes_before_everything(home):
    program(home, "# notqmail-python launcher\nexit 1\n")
    other = program(home, 'printf "hno\\n\\0DGiving up\\n\\0"', "other")
    with Spawner(home, QMAILREMOTE=other) as spawner:
        assert spawner.deliver() == permanent(b"no\nGiving up\n")
    with Spawner(home, QMAILREMOTE="other") as spawner:  # found on the PATH
        assert spawner.deliver().kind == b"D"


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("exit 111", temporary(b"Unable to run qmail-remote.\n")),
        ("exit 100", permanent(b"Unable to run qmail-remote.\n")),
        ("exec no-such-program", temporary(b"Unable to run qmail-remote.\n")),
        ("kill -9 $$", temporary(b"qmail-remote crashed.\n")),
        ("exit 0", temporary(b"qmail-remote produced no output.\n")),
        ('printf "r\\0"', temporary(b"")),
    ],
)
def test_the_end_of_a_foreign_qmail_remote(home, text, report):
    program(home, text)
    with Spawner(home) as spawner:
        assert spawner.deliver() == report


@pytest.mark.parametrize("setting", ["/no/such/program", "no-such-program"])
def test_a_qmailremote_that_is_missing_or_cannot_run_never_bounces(home, setting):
    with Spawner(home, QMAILREMOTE=setting) as spawner:
        assert spawner.deliver() == temporary(b"Unable to run qmail-remote.\n")
    broken = home / "bin/broken"
    broken.write_bytes(b"#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with Spawner(home, QMAILREMOTE=str(broken)) as spawner:
        assert spawner.deliver() == temporary(b"Unable to run qmail-remote.\n")


def test_a_program_that_floods_is_cut(home):
    program(home, 'printf "r\\0Kfine\\n\\0"; head -c 3000000 /dev/zero | tr "\\0" x')
    with Spawner(home) as spawner:
        assert spawner.deliver() == success(b"fine\n")


def test_programs_run_at_the_same_time_and_leave_no_zombie(home):
    program(home, 'sleep 0.3; printf "r\\0K$3\\n\\0"')
    with Spawner(home) as spawner:
        for slot in range(20):
            spawner.command(slot, recipient=b"%d@y" % slot)
        reports = spawner.reports(20)
        assert reports == {slot: Report(b"K", b"%d@y\n" % slot) for slot in range(20)}
        children = subprocess.run(["ps", "--ppid", str(spawner.pid), "-o", "pid="], capture_output=True, check=False)
        assert children.stdout == b""


def test_without_a_queue_it_does_not_begin(tmp_path):
    run = [sys.executable, "-m", "notqmail.programs.qmail_rspawn"]
    done = subprocess.run(run, env={**os.environ, "QMAILHOME": str(tmp_path)}, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (111, b"")
    assert subprocess.run([*run, "--help"], capture_output=True, timeout=60).stdout.startswith(b"usage: qmail-rspawn")


def test_a_missing_tcpto_is_no_trouble(home):
    (home / "queue/lock/tcpto").unlink()
    with ScriptedPeer() as peer, Spawner(home) as spawner:
        route(home, ("", peer))
        assert spawner.deliver() == ACCEPTED
    assert not (home / "queue/lock/tcpto").exists()
    assert stat.S_ISDIR(os.stat(home / "queue/lock").st_mode)
