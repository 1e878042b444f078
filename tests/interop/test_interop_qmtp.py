"""QMTP and QMQP with other people's programs: Postfix's qmqp-source and qmqp-sink, nullmailer, mailfront, tcpserver."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from interop_system import DEADLINE_S, System, free_port, listens, program, wait_for

pytestmark = pytest.mark.debian
FOREIGN = Path(__file__).parents[2] / ".foreign"
MESSAGE = b"Subject: by a quick protocol\n\n.\n..\nbody\n"
ACCEPTED = b"r\0K127.0.0.1 accepted message.\nRemote host said: "


def unpacked(*packages: str) -> Path:
    """The directory of the first of these packages; the test is skipped, and counted as skipped, where one lacks."""
    for package in packages:
        if not (FOREIGN / package / "version").exists():
            pytest.skip(f"{package} is not unpacked in .foreign/ (packaging/foreign-servers; needs Debian's archive)")
    return FOREIGN / packages[0]


@contextmanager
def serving(port: int, argv: list[str], environ: dict[str, str]) -> Iterator[int]:
    """A server on that port, as long as the block lasts."""
    server = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens(port), argv[0])
        yield port
    finally:
        server.terminate()
        server.wait(DEADLINE_S)


@contextmanager
def under_tcpserver(system: System, *argv: str, **environ: str) -> Iterator[int]:
    """One of these for each client; the port."""
    port = free_port()
    command = [program("tcpserver"), "-HRDl0", "127.0.0.1", str(port), *argv]
    with serving(port, command, system.environ | environ):
        yield port


@contextmanager
def resident(system: System, name: str) -> Iterator[int]:
    """Our own server; the port."""
    port = free_port()
    with serving(port, [system.bin(name), "--listen", f"127.0.0.1:{port}"], system.environ):
        yield port


@contextmanager
def mailfront(system: System, protocol: str, **environ: str) -> Iterator[int]:
    """mailfront in front of our queue, or of the QMAILQUEUE given; the port."""
    root = unpacked("mailfront", "libbg2", "libcvm1", "liblua5.1-0")
    libraries = [
        directory
        for package in ("libbg2", "libcvm1", "liblua5.1-0")
        for directory in (FOREIGN / package / "usr/lib", *(FOREIGN / package / "usr/lib").glob("*-linux-gnu"))
    ]
    system.control("rcpthosts", (system.home / "control/locals").read_text())
    command = [str(root / "usr/sbin/mailfront"), protocol, "qmail", "qmail-validate"]
    with under_tcpserver(
        system, *command, LD_LIBRARY_PATH=":".join(map(str, libraries)),
        MODULE_PATH=str(root / "usr/lib/mailfront"), **environ,
    ) as port:  # fmt: skip
        yield port


def test_postfix_qmqp_source_sends_to_our_qmqpd(system: System) -> None:
    source = program("qmqp-source")
    system.start(smtpd=False)
    with resident(system, "qmail-qmqpd") as port:
        for count, length in ((20, 3_000), (2, 300_000)):
            subprocess.run(
                [source, "-s", "5" if count > 2 else "1", "-m", str(count), "-l", str(length), "-f", "me@client.test",
                 "-t", system.address, f"127.0.0.1:{port}"], check=True, timeout=DEADLINE_S,
            )  # fmt: skip
    messages = system.wait_mail(22)
    assert all(b" with QMQP; " in message and b"\nX\nXX\nXXX\n" in message for message in messages)
    assert [len(message) > 300_000 for message in messages].count(True) == 2
    system.wait_empty()


def test_our_qmqpc_hands_mail_to_postfix_qmqp_sink(system: System) -> None:
    port = free_port()
    drop_root = {} if os.geteuid() else {"user": "nobody"}
    sink = subprocess.Popen([program("qmqp-sink"), f"127.0.0.1:{port}", "50"], stdin=subprocess.DEVNULL, cwd="/",
                            **drop_root)  # fmt: skip
    try:
        wait_for(lambda: listens(port), "qmqp-sink")
        system.control("qmqpservers", f"127.0.0.1:{port}\n")
        for message in (MESSAGE, MESSAGE + b"x" * 70 * 10_000):
            injected = system.run(
                "qmail-inject", "-fme@client.test", "a@far.test", "b@far.test", data=message,
                QMAILQUEUE=system.bin("qmail-qmqpc"),
            )  # fmt: skip
            assert (injected.returncode, injected.stderr) == (0, b"")
    finally:
        sink.terminate()
        sink.wait(DEADLINE_S)
    later = system.run("qmail-inject", "-fme@client.test", "a@far.test", data=MESSAGE,
                       QMAILQUEUE=system.bin("qmail-qmqpc"))  # fmt: skip
    assert later.returncode == 111
    assert b"connection to mail server rejected (#4.4.1)" in later.stderr


def test_nullmailer_sends_to_our_qmqpd(system: System) -> None:
    client = unpacked("nullmailer") / "usr/lib/nullmailer/qmqp"
    system.start(smtpd=False)
    (system.home / "m").write_bytes(f"me@client.test\n{system.address}\n\n".encode() + MESSAGE)
    with resident(system, "qmail-qmqpd") as port:
        command = f'"{client}" 3<"{system.home}/m"'
        done = subprocess.run(["/bin/sh", "-c", command], input=f"host=127.0.0.1\nport={port}\n\n".encode(),
                              capture_output=True, timeout=DEADLINE_S, check=False)  # fmt: skip
    assert done.returncode == 0 and b"ok " in done.stdout, done.stderr
    (message,) = system.wait_mail()
    assert message.endswith(MESSAGE)


def test_our_qmqpc_hands_mail_to_mailfront(system: System) -> None:
    system.start(smtpd=False)
    with mailfront(system, "qmqp") as port:
        system.control("qmqpservers", f"127.0.0.1:{port}\n")
        injected = system.run("qmail-inject", "-fme@client.test", system.address, data=MESSAGE,
                              QMAILQUEUE=system.bin("qmail-qmqpc"))  # fmt: skip
        refused = system.run("qmail-inject", "-fme@client.test", "a@far.test", data=MESSAGE,
                             QMAILQUEUE=system.bin("qmail-qmqpc"))  # fmt: skip
    assert (injected.returncode, injected.stderr) == (0, b"")
    assert refused.returncode == 100
    (message,) = system.wait_mail()
    assert message.endswith(MESSAGE)


def qmtpc(system: System, recipient: str, data: bytes = MESSAGE) -> bytes:
    """What qmail-qmtpc prints of one delivery."""
    done = system.run("qmail-qmtpc", "far.test", "me@client.test", recipient, data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_our_qmtpc_hands_mail_to_mailfront(system: System) -> None:
    system.start(smtpd=False)
    with mailfront(system, "qmtp") as port:
        system.control("qmtproutes", f":127.0.0.1;{port}\n")
        large = MESSAGE + b"x" * 300_000 + b" no line end"
        assert qmtpc(system, system.address).startswith(ACCEPTED)
        assert qmtpc(system, system.address, large).startswith(ACCEPTED)
        assert qmtpc(system, "a@far.test").startswith(b"h127.0.0.1 did not take it for this recipient.\n")
    assert sorted(len(message) > 300_000 for message in system.wait_mail(2)) == [False, True]
    assert all(message.split(b"\n\n", 1)[1].startswith(b".\n..\nbody\n") for message in system.wait_mail(2))


def test_mailfront_answers_once_for_several_and_is_not_waited_for_long(system: System) -> None:
    """Against section 2 of the protocol; it has queued the message for both."""
    system.start(smtpd=False)
    with mailfront(system, "qmtp") as port:
        system.control("qmtproutes", f":127.0.0.1;{port}\n")
        system.control("timeoutremote", "10\n")  # time enough to queue it
        done = system.run("qmail-qmtpc", "far.test", "me@client.test", system.address, system.address, data=MESSAGE)
    first, second, message, rest = done.stdout.split(b"\0")
    assert (first, message[:1], rest) == (b"r", b"K", b"")
    assert second.startswith(b"sConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n")
    assert b"Remote host answered for 1 of 2 recipients; QMTP wants an answer for each.\n" in second
    assert len(system.wait_mail(2)) == 2


def test_a_whole_system_delivers_by_qmtp_to_mailfront(system: System) -> None:
    elsewhere = system.home / "elsewhere"
    elsewhere.write_text(f"#!/bin/sh\nunset LD_LIBRARY_PATH\ncat >{system.home}/m.$$\ncat <&1 >{system.home}/e.$$\n")
    elsewhere.chmod(0o755)
    system.start(smtpd=False)
    with mailfront(system, "qmtp", QMAILQUEUE=str(elsewhere)) as port:
        system.control("rcpthosts", "far.test\n")
        system.control("qmtproutes", f"far.test:127.0.0.1;{port}\n")
        system.run("qmail-inject", "-fme@client.test", "a@far.test", data=MESSAGE)
        system.wait_log(b"success: 127.0.0.1_accepted_message./Remote_host_said:_2.6.0_Accepted_message")
        system.wait_empty()
    (envelope,), (message,) = list(system.home.glob("e.*")), list(system.home.glob("m.*"))
    assert envelope.read_bytes() == b"Fme@client.test\0Ta@far.test\0\0"
    assert message.read_bytes().endswith(MESSAGE)


@pytest.mark.parametrize("name", ["qmail-qmtpd", "qmail-qmqpd"])
def test_tcpserver_runs_one_of_ours_for_each_client(system: System, name: str) -> None:
    system.start(smtpd=False)
    with under_tcpserver(system, system.bin(name), RELAYCLIENT="") as port:
        if name == "qmail-qmtpd":
            system.control("qmtproutes", f":127.0.0.1:{port}\n")
            assert qmtpc(system, system.address).startswith(ACCEPTED + b"ok ")
        else:
            system.control("qmqpservers", f"127.0.0.1:{port}\n")
            done = system.run("qmail-inject", "-fme@client.test", system.address, data=MESSAGE,
                              QMAILQUEUE=system.bin("qmail-qmqpc"))  # fmt: skip
            assert (done.returncode, done.stderr) == (0, b"")
    (message,) = system.wait_mail()
    assert b"\nReceived: from unknown (127.0.0.1)\n  by 0 with " in message
    assert message.endswith(MESSAGE)
