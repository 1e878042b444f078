"""A classic system's services beside SMTP: QMTP and QMQP in, POP3 out."""

import poplib
import shutil
import socket

from classic_house import DEADLINE_S, HOST, System, until

from free_ports import free_port

PASSWORD = "correct horse"


def mail_by_the_other_services(system: System) -> None:
    """In by QMTP and QMQP, out by POP3."""
    control, bin_ = system.home / "control", f"{system.home}/bin"
    line = system.run([f"{bin_}/checkpassword", "--make", "bob"], data=PASSWORD.encode() + b"\n").stdout
    system.write(control / "passwords", line.decode(), "root", 0o600)
    ports = {kind: free_port() for kind in ("qmtp", "qmqp", "pop3")}
    for kind in ("qmtp", "qmqp"):
        rules = f"{control}/tcp.smtp.cdb"
        system.service([f"qmail-{kind}d", "--listen", f"127.0.0.1:{ports[kind]}", "--rules", rules, "--user", "qmaild"])
    system.service([
        str(shutil.which("tcpserver")), "-HRl0", "127.0.0.1", str(ports["pop3"]), f"{bin_}/qmail-popup", HOST,
        f"{bin_}/checkpassword", f"{bin_}/qmail-pop3d", "Maildir",
    ])  # fmt: skip
    until(lambda: all(answers(port) for port in ports.values()), system.log)
    sender, recipient = netstring(b"s@x.test"), netstring(f"bob@{HOST}".encode())
    message = netstring(b"\nSubject: QMTP\n\n")
    assert b":Kok " in exchange(ports["qmtp"], message + sender + netstring(recipient))
    message = netstring(b"Subject: QMQP\n\n")
    assert b":Kok " in exchange(ports["qmqp"], netstring(message + sender + recipient))
    for needle in ("Subject: QMTP", "Subject: QMQP"):
        system.mail("bob", needle)
    until(lambda: fetched(ports["pop3"]) >= 2, system.log)  # what is as young as this second is left out at first


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def netstring(value: bytes) -> bytes:
    return b"%d:%b," % (len(value), value)


def exchange(port: int, package: bytes) -> bytes:
    """The answer to a package."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as connection:
        connection.sendall(package)
        return connection.recv(1000)


def fetched(port: int) -> int:
    """How many messages bob is offered; one of them is read whole."""
    client = poplib.POP3("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        client.user("bob")
        client.pass_(PASSWORD)
        count = int(client.stat()[0])
        if count:
            assert b"Subject: " in b"".join(client.retr(1)[1])
        client.quit()
    finally:
        client.close()
    return count
