"""Foreign SMTP clients against the resident qmail-smtpd, and where their mail ends."""

import smtplib
import subprocess

import pytest
from interop_peers import Receiver, Sink
from interop_system import DEADLINE_S, System, program

pytestmark = pytest.mark.debian
LONG_LINES = "".join(f"{n:04d} " + "x" * 900 + "\n" for n in range(20))


def swaks(system: System, recipient: str, *more: str) -> subprocess.CompletedProcess[str]:
    """One message by swaks; its transcript is in stdout."""
    argv = [program("swaks"), "--server", "127.0.0.1", "--port", str(system.smtp_port), "--helo", "client.test",
            "--from", "sender@client.test", "--to", recipient, *more]  # fmt: skip
    return subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_swaks_reaches_the_maildir(system: System) -> None:
    system.start()
    done = swaks(system, system.address, "--header", "Subject: from swaks", "--body", "first\n.second\n..third\n")
    assert done.returncode == 0, done.stdout
    (message,) = system.wait_mail()
    header, _, body = message.partition(b"\n\n")
    assert header.startswith(b"Return-Path: <sender@client.test>\nDelivered-To: " + system.address.encode())
    assert b"\nReceived: from unknown (HELO client.test) (127.0.0.1)\n" in header
    assert b"\nSubject: from swaks\n" in header
    assert body.startswith(b"first\n.second\n..third\n")
    system.wait_empty()


def test_swaks_sees_what_ehlo_offers(system: System) -> None:
    system.control("databytes", "100000\n")
    system.start()
    done = swaks(system, system.address, "--quit-after", "EHLO")
    for offer in ("PIPELINING", "8BITMIME", "SIZE 100000", "ENHANCEDSTATUSCODES"):
        assert offer in done.stdout, done.stdout


def test_a_pipelining_client_gets_every_answer(system: System) -> None:
    system.start()
    done = swaks(system, system.address, "--pipeline")
    assert done.returncode == 0, done.stdout
    assert len(system.wait_mail()) == 1


def test_a_recipient_elsewhere_is_refused_without_relay_rights(system: System) -> None:
    system.start(relay=False)
    done = swaks(system, "someone@away.test")
    assert "553 " in done.stdout and done.returncode != 0, done.stdout
    assert system.queued() == 0


def test_swaks_to_a_remote_address_reaches_the_sink_through_smtproutes(system: System, sink: Sink) -> None:
    system.control("smtproutes", f":127.0.0.1:{sink.port}\n")
    system.start()
    done = swaks(system, "someone@away.test", "--body", "over the hill\n.dot\n")
    assert done.returncode == 0, done.stdout
    (message,) = sink.wait_messages(system=system)
    assert b"\nX-Mail-Args: <sender@client.test>" in message and b"\nX-Rcpt-Args: <someone@away.test>" in message
    assert b"over the hill" in message
    system.wait_log(b"127.0.0.1_accepted_message./")


def test_swaks_to_a_real_postfix_ends_in_its_maildir(system: System, postfix_server: Receiver) -> None:
    system.control("smtproutes", f"there.test:127.0.0.1:{postfix_server.port}\n")
    system.start()
    done = swaks(system, postfix_server.address, "--header", "Subject: for Postfix", "--body", "x\n.y\n" + LONG_LINES)
    assert done.returncode == 0, done.stdout
    (message,) = postfix_server.wait_mail(system=system)
    header, _, body = message.partition(b"\n\n")
    assert header.startswith(b"Return-Path: <sender@client.test>\n") and b"\nSubject: for Postfix\n" in header
    assert body.startswith(b"x\n.y\n" + LONG_LINES.encode())
    system.wait_empty()


def test_many_messages_of_one_smtplib_session_arrive_whole(system: System) -> None:
    system.start()
    texts = [f"Subject: number {n}\r\n\r\nline {n}\r\n..two\r\n".encode() for n in range(12)]
    with smtplib.SMTP("127.0.0.1", system.smtp_port, local_hostname="lib.test", timeout=DEADLINE_S) as client:
        for text in texts:
            assert client.sendmail("lib@client.test", [system.address], text) == {}
    got = system.wait_mail(len(texts))
    assert sorted(m.partition(b"Subject: ")[2] for m in got) == sorted(
        text.partition(b"Subject: ")[2].replace(b"\r\n", b"\n") for text in texts
    )


def test_smtplib_learns_which_of_two_recipients_was_refused(system: System) -> None:
    system.start(relay=False)
    with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=DEADLINE_S) as client:
        refused = client.sendmail("lib@client.test", [system.address, "x@away.test"], b"Subject: two\r\n\r\nx\r\n")
    assert list(refused) == ["x@away.test"] and refused["x@away.test"][0] == 553
    assert len(system.wait_mail()) == 1


def test_msmtp_sends_eight_bit_text(system: System) -> None:
    system.start()
    argv = [program("msmtp"), "--host=127.0.0.1", f"--port={system.smtp_port}", "--from=ms@client.test", "--auth=off",
            "--tls=off", "--file=/dev/null", system.address]  # fmt: skip
    text = "Subject: msmtp\n\nGrüße\n.\n..\n".encode()
    done = subprocess.run(argv, input=text, capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    (message,) = system.wait_mail()
    assert message.endswith("\n\nGrüße\n.\n..\n".encode())


def test_s_nail_sends_over_smtp(system: System) -> None:
    system.start()
    argv = [program("s-nail"), "-:/", "-S", f"mta=smtp://127.0.0.1:{system.smtp_port}", "-S", "v15-compat",
            "-S", "smtp-auth=none", "-S", "DEAD=/dev/null", "-S", "from=nail@client.test", "-s", "by s-nail",
            system.address]  # fmt: skip
    done = subprocess.run(argv, input=b"hello\n", capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    (message,) = system.wait_mail()
    assert b"\nSubject: by s-nail\n" in message and message.endswith(b"\nhello\n")
