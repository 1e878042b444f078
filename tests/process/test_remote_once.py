"""qmail-remote as a program, and its agent, against scripted servers on loopback."""

import os
import subprocess
import sys

import pytest
from remote_peer import CLOSE, SILENCE, FullHouse, ScriptedPeer

from notqmail.testing.dns_server import SILENT, FakeDnsServer

MESSAGE = b"Subject: x\n\nhello\n.\n..x\nend\n"
WIRE = b"Subject: x\r\n\r\nhello\r\n..\r\n...x\r\nend\r\n"
ESMTP = b"250-peer\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n"
ACCEPTED = b"r\0K127.0.0.1 accepted message.\nRemote host said: 250 ok\n\0"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "control").mkdir()
    (tmp_path / "queue/lock").mkdir(parents=True)
    (tmp_path / "queue/lock/tcpto").write_bytes(bytes(1024))
    (tmp_path / "control/me").write_text("me.example\n")
    (tmp_path / "control/timeoutremote").write_text("60\n")
    return tmp_path


def remote(home, *arguments, message=MESSAGE, environ=(), pipe=False):
    """Runs qmail-remote; (exit code, what it printed)."""
    path = home / "message"
    path.write_bytes(message)
    with open(path, "rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "notqmail.programs.qmail_remote", *arguments],
            **({"input": message} if pipe else {"stdin": file}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
            env={**os.environ, "QMAILHOME": str(home), "DNSCACHEIP": "127.0.0.1:9", **dict(environ)},
        )  # fmt: skip
    return done.returncode, done.stdout


def route(home, peer, key="", host="127.0.0.1"):
    (home / "control/smtproutes").write_text(f"{key}:{host}:{peer.port}\n")


def through(home, answers=None, *, recipients=("r@y.example",), message=MESSAGE, sender="s@x", **how):
    with ScriptedPeer(answers, **how) as peer:
        route(home, peer)
        code, output = remote(home, "y.example", sender, *recipients, message=message)
    assert code == 0
    return output, peer


def test_a_message_for_a_server_of_the_old_kind(home):
    output, peer = through(home)
    assert output == ACCEPTED
    assert peer.heard == [
        b"EHLO me.example", b"HELO me.example", b"MAIL FROM:<s@x>", b"RCPT TO:<r@y.example>", b"DATA", b"QUIT",
    ]  # fmt: skip
    assert peer.bodies == [WIRE]


def test_a_message_for_a_server_of_today(home):
    output, peer = through(home, {b"EHLO": ESMTP}, message=MESSAGE + b"\xe4\n")
    assert output == ACCEPTED
    size = len(MESSAGE) + 2
    assert b"MAIL FROM:<s@x> SIZE=%d BODY=8BITMIME" % size in peer.heard
    assert b"HELO me.example" not in peer.heard


def test_a_seven_bit_message_is_not_called_eight_bit(home):
    _, peer = through(home, {b"EHLO": ESMTP})
    assert b"MAIL FROM:<s@x> SIZE=%d" % len(MESSAGE) in peer.heard


def test_the_helo_name_and_quoting(home):
    (home / "control/helohost").write_text("helo.example\n")
    _, peer = through(home, sender="", recipients=("odd box@y.example", "no-at"))
    assert peer.heard[1:5] == [
        b"HELO helo.example", b"MAIL FROM:<>", b'RCPT TO:<"odd box"@y.example>', b"RCPT TO:<no-at>",
    ]  # fmt: skip


STEPS = [
    (b"", "greeting"),
    (b"HELO", "hello"),
    (b"MAIL", "sender"),
    (b"RCPT", "recipient"),
    (b"DATA", "data"),
    (b".", "end"),
]
DIED = b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n\0"


@pytest.mark.parametrize("step", [step for step, _ in STEPS], ids=[name for _, name in STEPS])
def test_a_server_that_hangs_up(home, step):
    output, _ = through(home, {step: CLOSE})
    expected = DIED.replace(b"(#", b"Possible duplicate! (#") if step == b"." else DIED
    assert output == (b"r\0" if step in (b"DATA", b".") else b"") + expected


def test_a_server_that_hangs_up_in_the_body(home):
    output, _ = through(home, {"in body": CLOSE}, message=b"x" * 99 + b"\n" + MESSAGE * 100_000)
    assert output == b"r\0" + DIED


@pytest.mark.parametrize("extensions", [b"502 what?\r\n", ESMTP])
def test_a_server_that_talks_byte_by_byte(home, extensions):
    output, peer = through(home, {b"EHLO": extensions}, byte_by_byte=True)
    assert output == ACCEPTED and peer.bodies == [WIRE]


@pytest.mark.parametrize("step", [b"", b"MAIL", b"."])
def test_a_server_that_falls_silent_is_left_after_timeoutremote(home, step):
    # The peer's other answers are given in time, however busy the machine is; before the dot an early end is the same.
    (home / "control/timeoutremote").write_text("5\n" if step == b"." else "1\n")
    output, _ = through(home, {step: SILENCE})
    assert b"connection died." in output and (b"Possible duplicate!" in output) == (step == b".")


@pytest.mark.parametrize("extensions", [b"502 what?\r\n", ESMTP])
def test_every_recipient_has_its_own_report_in_order(home, extensions):
    output, peer = through(
        home,
        {b"EHLO": extensions, b"RCPT TO:<a@y>": b"550 no\r\n", b"RCPT TO:<b@y>": b"450-l\r\n450 later\r\n"},
        recipients=("a@y", "b@y", "c@y"),
    )
    assert output == (
        b"h127.0.0.1 does not like recipient.\nRemote host said: 550 no\n\0"
        b"s127.0.0.1 does not like recipient.\nRemote host said: 450-l\n450 later\n\0" + ACCEPTED
    )
    assert peer.bodies == [WIRE]


def test_a_partial_last_line_is_refused_before_data(home):
    output, peer = through(home, {b"EHLO": ESMTP}, message=b"x\npartial")
    assert output == b"r\0DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n\0"
    assert b"DATA" not in peer.heard and peer.bodies == []


def test_an_empty_message_and_one_with_bare_returns(home):
    assert through(home, message=b"")[1].bodies == [b""]
    assert through(home, message=b"a\r.\nb\r")[1].bodies == [b"a\r\n..\r\nb\r\n"]


def test_a_long_message_from_a_pipe(home):
    message = b"Subject: long\n\n" + b"0123456789" * 7 + b"\n" + (b"." * 71 + b"\n") * 40_000
    with ScriptedPeer() as peer:
        route(home, peer)
        assert remote(home, "y", "s@x", "r@y", message=message, pipe=True) == (0, ACCEPTED)
    assert peer.bodies == [message.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")]


def test_ipv6(home):
    import socket

    with ScriptedPeer(family=socket.AF_INET6) as peer:
        route(home, peer, host="[IPv6:::1]")
        assert remote(home, "y", "s@x", "r@y") == (0, ACCEPTED.replace(b"127.0.0.1", b"::1"))


def test_outgoingip_is_where_we_come_from(home):
    (home / "control/outgoingip").write_text("127.0.0.7\n")
    assert through(home)[1].clients[0][0] == "127.0.0.7"
    (home / "control/outgoingip").write_text("192.0.2.1\n")  # not ours
    assert through(home)[0] == b"ZSystem resources temporarily unavailable. (#4.3.0)\n\0"


def test_nobody_there_is_temporary_and_a_refusal_is_not_remembered(home, free_port):
    (home / "control/smtproutes").write_text(f":127.0.0.1:{free_port}\n")
    no = (0, b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n\0")
    assert remote(home, "y", "s@x", "r@y") == no
    assert (home / "queue/lock/tcpto").read_bytes() == bytes(1024)


def test_a_connection_that_times_out_is_remembered(home):
    (home / "control/timeoutconnect").write_text("1\n")
    with FullHouse() as house:
        route(home, house)
        assert b"(#4.4.1)" in remote(home, "y", "s@x", "r@y")[1]
    assert (home / "queue/lock/tcpto").read_bytes()[:5] == bytes([127, 0, 0, 1, 1])


def test_an_address_that_timed_out_twice_is_not_tried_and_an_answer_clears_it(home):
    import time

    now = int(time.time()).to_bytes(4, "little")
    record = bytes([127, 0, 0, 1, 2, 0, 0, 0]) + now + bytes(4)
    (home / "queue/lock/tcpto").write_bytes(record + bytes(1008))
    output, peer = through(home)
    assert b"(#4.4.1)" in output and peer.connections == 0
    (home / "queue/lock/tcpto").write_bytes(record[:4] + b"\1" + record[5:] + bytes(1008))
    assert through(home)[0] == ACCEPTED
    assert (home / "queue/lock/tcpto").read_bytes()[4] == 0


def test_names_are_looked_up_where_dnscacheip_says(home):
    with FakeDnsServer() as dns, ScriptedPeer() as peer:
        dns.records("relay.example", "A", "127.0.0.1")
        dns.records("null.example", "MX", "0 .")
        dns.records("me.example", "A", "127.0.0.1")
        dns.misbehave("slow.example", SILENT)
        route(home, peer, key="y.example", host="relay.example")
        environ = {"DNSCACHEIP": f"127.0.0.1:{dns.address[1]}"}
        assert remote(home, "y.example", "s@x", "r@y.example", environ=environ) == (0, ACCEPTED)
        assert b"(#5.1.10)" in remote(home, "null.example", "s@x", "r@y", environ=environ)[1]
        assert b"(#5.4.6)" in remote(home, "me.example", "s@x", "r@y", environ=environ)[1]
        assert remote(home, "gone.example", "s@x", "r@y", environ=environ)[1] == (
            b"DSorry, I couldn't find any host named gone.example. (#5.1.2)\n\0"
        )


def test_a_dns_server_that_is_not_there_is_temporary(home):
    assert remote(home, "y.example", "s@x", "r@y") == (
        0, b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n\0",
    )  # fmt: skip


def test_trouble_before_anything_begins(home):
    assert remote(home, "y", "s@x") == (0, b"DI (qmail-remote) was invoked improperly. (#5.3.5)\n\0")
    (home / "control/me").unlink()
    assert remote(home, "y", "s", "r") == (0, b"ZUnable to read control files. (#4.3.0)\n\0")
    (home / "control/me").mkdir()
    assert remote(home, "y", "s", "r") == (0, b"ZUnable to read control files. (#4.3.0)\n\0")
    nowhere = {"QMAILHOME": str(home / "nowhere")}
    assert remote(home, "y", "s", "r", environ=nowhere) == (0, b"ZUnable to switch to home directory. (#4.3.0)\n\0")


def test_help(home):
    code, output = remote(home, "--help")
    assert code == 0 and output.startswith(b"usage: qmail-remote")


def test_an_address_literal_needs_no_dns_library_and_no_event_loop(home):
    code = (
        "import sys; from notqmail.programs import qmail_remote; "
        "print([name for name in ('dns', 'asyncio', 'argparse', 'logging', 'dataclasses', 'subprocess', 'typing') "
        "if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
