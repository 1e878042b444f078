"""The one-shot faces under foreign parents: tcpserver, a mail reader, a shell pipe."""

import subprocess

import pytest
from interop_system import DEADLINE_S, System, free_port, listens, program, wait_for

pytestmark = pytest.mark.debian
MESSAGE = b"From: me@client.test\nSubject: one shot\n\nbody\n"


def smtp_dialogue(port: int, *lines: bytes) -> list[bytes]:
    """Sends the lines one by one; returns the answer to each, the greeting first."""
    import socket

    answers = []
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as link, link.makefile("rb") as stream:
        answers.append(stream.readline())
        for line in lines:
            link.sendall(line)
            answers.append(stream.readline())
    return answers


@pytest.mark.parametrize("relaying", [True, False])
def test_tcpserver_runs_qmail_smtpd_with_rules_of_tcprules(system: System, relaying: bool) -> None:
    system.start(smtpd=False)
    rules, port = system.home / "rules.cdb", free_port()
    text = b'127.0.0.1:allow,RELAYCLIENT="@relayed.test"\n' if relaying else b":allow\n"
    subprocess.run([program("tcprules"), str(rules), str(rules) + ".tmp"], input=text, check=True, timeout=DEADLINE_S)
    server = subprocess.Popen(
        [program("tcpserver"), "-HRDl0", "-x", str(rules), "127.0.0.1", str(port), system.bin("qmail-smtpd")],
        env=system.environ, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: listens(port), "tcpserver")
        answers = smtp_dialogue(
            port, b"HELO here.test\r\n", b"MAIL FROM:<a@client.test>\r\n", b"RCPT TO:<b@away.test>\r\n",
            b"RCPT TO:<" + system.address.encode() + b">\r\n", b"RSET\r\n", b"QUIT\r\n",
        )  # fmt: skip
    finally:
        server.terminate()
        server.wait(DEADLINE_S)
    assert [answer[:3] for answer in answers] == [
        b"220", b"250", b"250", b"250" if relaying else b"553", b"250", b"250", b"221",
    ]  # fmt: skip


def test_mail_through_tcpserver_lands_in_the_maildir(system: System) -> None:
    import smtplib

    system.start(smtpd=False)
    port = free_port()
    server = subprocess.Popen(
        [program("tcpserver"), "-HRDl0", "127.0.0.1", str(port), system.bin("qmail-smtpd")],
        env=system.environ, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: listens(port), "tcpserver")
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_S) as client:
            client.sendmail("a@client.test", [system.address], MESSAGE.replace(b"\n", b"\r\n"))
    finally:
        server.terminate()
        server.wait(DEADLINE_S)
    (message,) = system.wait_mail()
    assert message.endswith(b"Subject: one shot\n\nbody\n")


def test_mail_can_be_queued_while_nothing_runs_and_is_delivered_later(system: System) -> None:
    injected = system.run("qmail-inject", "-fme@client.test", system.address, data=MESSAGE)
    assert (injected.returncode, injected.stderr) == (0, b"")
    envelope = b"Fme@client.test\0T" + system.address.encode() + b"\0\0"
    command = f'"{system.bin("qmail-queue")}" <"{system.home}/m" 1<"{system.home}/e"'
    (system.home / "m").write_bytes(MESSAGE)
    (system.home / "e").write_bytes(envelope)
    subprocess.run(["/bin/sh", "-c", command], env=system.environ, check=True, timeout=DEADLINE_S)
    assert system.queued() == 2
    system.start(queue=False, smtpd=False)
    assert len(system.wait_mail(2)) == 2
    system.wait_empty()


def test_s_nail_hands_its_mail_to_our_sendmail(system: System) -> None:
    system.start(smtpd=False)
    argv = [program("s-nail"), "-:/", "-S", f"mta={system.bin('sendmail')}", "-S", "DEAD=/dev/null",
            "-S", "from=nail@client.test", "-s", "by sendmail", system.address]  # fmt: skip
    done = subprocess.run(argv, input=b"hello\n", env=system.environ, capture_output=True, timeout=DEADLINE_S,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (message,) = system.wait_mail()
    assert b"\nSubject: by sendmail\n" in message and message.endswith(b"\nhello\n")
