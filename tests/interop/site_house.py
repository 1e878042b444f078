"""Builds the site of site_layout.py, sends it the messages of site_table.txt and finds every copy of them."""

import os
import re
import smtplib
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path

import site_layout as layout

sys.path.append(str(Path(__file__).parents[1] / "process"))
from classic_house import DEADLINE_S, System, made_system, until

__all__ = ["made_system"]
TABLE = Path(__file__).with_name("site_table.txt")
BODY = b"Dear all,\nFrom now on\n>From then on\n.\n..\nno more.\n"
BOUNCE = b"Hi. This is the qmail-send program at mail.test."
MODES = {"x": 0o744, "w": 0o666}


class Case:
    """A block of the table. `token` is in the subject, and so in every copy; `part` is the heading it stands under."""

    def __init__(self, number: int, part: str, words: list[str]) -> None:
        self.part = part
        self.way, sender, self.recipient = words[:3]
        self.sender = "" if sender == "<>" else sender
        self.token = f"case-{number:03}-"
        self.subject = " ".join([self.token, *words[3:]])
        self.copies: list[str] = []

    def text(self) -> bytes:
        """The message."""
        bulk = b"Precedence: bulk\n" if "bulk" in self.subject else b""
        return b"Subject: " + self.subject.encode() + b"\n" + bulk + b"\n" + BODY


def cases() -> list[Case]:
    """The table."""
    found: list[Case] = []
    part = ""
    for line in TABLE.read_text().splitlines():
        if line.startswith(" "):
            found[-1].copies.append(" ".join(line.split()))
        elif line.startswith("#"):
            part = line.strip("# ")
        elif line:
            found.append(Case(len(found), part, line.split()))
    return found


# ── the next host ───────────────────────────────────────────────────────────────────────────────────────────────────


class NextHost(socketserver.ThreadingTCPServer):
    """Takes all mail for elsewhere. `taken` are (sender, recipients, message)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Dialogue)
        self.taken: list[tuple[str, list[str], bytes]] = []


class Dialogue(socketserver.StreamRequestHandler):
    """Plain SMTP, no extensions."""

    def handle(self) -> None:
        assert isinstance(self.server, NextHost)
        sender, recipients = "", list[str]()
        self.wfile.write(b"220 next.test\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"MAIL":
                sender, recipients = path_of(line), []
            elif verb == b"RCPT":
                recipients.append(path_of(line))
            elif verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.server.taken.append((sender, recipients, self._message()))
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return

    def _message(self) -> bytes:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) != b".\r\n" and line:
            lines.append(line.removeprefix(b".").replace(b"\r\n", b"\n"))
        return b"".join(lines)


def path_of(line: bytes) -> str:
    """The address between angle brackets."""
    return line[line.index(b"<") + 1 : line.rindex(b">")].decode()


@contextmanager
def next_host() -> Iterator[NextHost]:
    """One that runs."""
    with NextHost() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# ── the site ────────────────────────────────────────────────────────────────────────────────────────────────────────


def build(system: System, next_port: int, *, users: bool = True) -> None:
    """Every file of the site, in a home not started yet. Without `users` the password file alone says who is who."""
    homes = {"alice": system.person("alice"), "bob": system.person("bob"), "alias": system.home / "alias"}
    uid, gid = system.machine.uid, system.machine.gid
    own = {name: f"{uid[name]}:{gid[name]}:{homes[name]}" for name in ("alice", "bob")}
    for name, text in layout.CONTROLS.items():
        system.write(system.home / "control" / name, f"{text}\n", "root")
    system.write(system.home / "control" / "smtproutes", f":127.0.0.1:{next_port}\n", "root")
    for name, text in layout.USERS.items():
        system.write(system.home / "users" / name, f"{text.format(**own)}\n", "root")
    accounts = {name: f"{uid[name]}:{gid[name]}::{homes[name]}:/bin/sh" for name in ("alice", "bob")}
    accounts["nowhere"] = accounts["bob"].replace(str(homes["bob"]), f"{homes['bob']}/gone")
    system.write(system.base / "more-passwd", f"{layout.PASSWD.format(**accounts)}\n", "root")
    make = (
        f"cd {system.home}/users && cat /etc/passwd {system.base}/more-passwd | {system.home}/bin/qmail-pw2u >assign"
        f" && {system.home}/bin/qmail-newu"
    )
    if users:
        done = system.run(["/bin/sh", "-c", make])
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    for user, files in (("alice", layout.ALICE), ("bob", layout.BOB), ("alias", layout.ALIAS)):
        for extension, text in files.items():
            write_dot_qmail(system, homes[user], user, extension, text)
        for name in (*layout.MAILDIRS.get(user, ()), "kept"):
            make_maildir(system, homes[user] / name, user, flat=name == "kept")
    alice = homes["alice"]
    for extension, text in layout.EXECUTABLE.items():
        write_dot_qmail(system, alice, "alice", extension, text, MODES["x"])
    for extension, text in layout.WRITABLE.items():
        write_dot_qmail(system, alice, "alice", extension, text, MODES["w"])
    (alice / ".qmail-folder").mkdir()
    (alice / ".qmail-link").symlink_to(".qmail-carol")
    system.write(alice / "vacation", layout.VACATION, "alice", 0o755)
    system.write(alice / ".forward", layout.FORWARD, "alice")


def write_dot_qmail(
    system: System, home: Path, user: str, extension: str, text: str, mode: int = 0o644
) -> None:  # fmt: skip
    """A .qmail file; one without a line is empty."""
    name = f".qmail-{extension}" if extension else ".qmail"
    system.write(home / name, f"{text}\n" if text else "", user, mode)


def make_maildir(system: System, path: Path, user: str, *, flat: bool) -> None:
    """A Maildir, or one plain directory."""
    for directory in (path, *(() if flat else (path / "tmp", path / "new", path / "cur"))):
        directory.mkdir(0o700)
        os.chown(directory, system.machine.uid[user], system.machine.gid.get(user, system.machine.gid["nofiles"]))


# ── sending and finding ─────────────────────────────────────────────────────────────────────────────────────────────


def send(system: System, case: Case) -> list[str]:
    """Sends it; returns where it is already: nowhere, or refused."""
    if case.way == "inject":
        inject = [f"{system.home}/bin/qmail-inject", f"-f{case.sender}", case.recipient]
        done = system.run(inject, "alice", b"From: alice@mail.test\nTo: x@mail.test\n" + case.text())
        assert (done.returncode, done.stderr) == (0, b"")
        return []
    with smtplib.SMTP("127.0.0.1", system.port, local_hostname="client.test", timeout=DEADLINE_S) as client:
        assert client.docmd("MAIL", f"FROM:<{case.sender}>")[0] == 250
        code, said = client.docmd("RCPT", f"TO:<{case.recipient}>")
        if code != 250:
            return [f"{case.token} refused | {code}"]
        code, said = client.data(case.text().replace(b"\n", b"\r\n"))
        assert code == 250, said
    return []


def rest(system: System, waiting: int) -> None:
    """Returns when so many messages wait for their next try and nothing else is under way.

    A message that makes another one stays in mess/ until the other one is there, so with `waiting` deferred ones in the
    log, none unread and no more than those in mess/, nothing is hidden anywhere.
    """
    queue = system.home / "queue"

    def reached() -> bool:
        unread = list((queue / "todo").iterdir())
        return (
            system.log().count(": deferral: ") >= waiting
            and not unread
            and len(list(queue.glob("mess/*/*"))) == waiting
        )

    until(reached, system.log)


def find(system: System, host: NextHost) -> list[str]:
    """Every copy of every message: token and a line as in the table."""
    found = []
    homes = {"alice": system.person("alice"), "bob": system.person("bob"), "alias": system.home / "alias"}
    for user, home in homes.items():
        for path in home.glob("*/new/*"):
            found.append(describe(f"{user}/{path.parts[-3]}", path.read_bytes()))
        for path in home.glob("kept/*"):
            found.append(describe(f"{user}/kept", path.read_bytes()))
        for path in home.glob("Mailbox"):
            for text in re.split(rb"(?m)^From (?=\S+ \w{3} \w{3} \d\d [\d:]{8} \d{4}\n)", path.read_bytes())[1:]:
                found.append(describe(f"{user}/Mailbox", unquoted(text.partition(b"\n")[2])))
    for sender, recipients, message in host.taken:
        for recipient in recipients:
            found.append(describe(f"remote {recipient}", b"Return-Path: <%b>\n" % sender.encode() + message))
    return found + waiting_messages(system)


def unquoted(text: bytes) -> bytes:
    """A message of an mbox as it was."""
    assert text.endswith(b"\n\n")
    return re.sub(rb"(?m)^>(>*From )", rb"\1", text[:-1])


def describe(place: str, text: bytes) -> str:
    """The token, and the copy as a line of the table."""
    head, _, body = text.partition(b"\n\n")
    message = message_from_bytes(head + b"\n\n")
    paths = [message["Return-Path"], *message.get_all("Delivered-To", [])]
    parts = [f"{token_of(text)} {place} {' '.join(paths)}"]
    if message["X-Env"]:
        parts.append(str(message["X-Env"]).rstrip())
    if body.startswith(BOUNCE):
        paragraphs = body.partition(b"--- Below this line is ")[0].split(b"\n\n")[1:-1]
        parts.append("//".join(each.decode().replace("\n", "/") + "/" for each in paragraphs))
        assert body.rstrip().endswith(BODY.rstrip()), f"the returned copy is not whole: {text!r}"
    elif str(message["Subject"]).startswith("Re: "):
        parts.append("answer")
    else:
        assert body == BODY, f"the message changed on its way: {text!r}"
    return " | ".join(parts)


def token_of(text: bytes) -> str:
    """The token of the case that it belongs to."""
    tokens = set(re.findall(rb"case-\d+-", text))
    assert len(tokens) == 1, text
    return str(tokens.pop().decode())


def waiting_messages(system: System) -> list[str]:
    """What is in the queue, with the reasons from the log."""
    found, log = [], system.log_path.read_text()
    for info in (system.home / "queue").glob("info/*/*"):
        number = f"{info.parent.name}/{info.name}"
        token = token_of((system.home / "queue" / "mess" / number).read_bytes())
        sender = info.read_bytes()[1:-1].decode()
        for kind in ("local", "remote"):
            path = system.home / "queue" / kind / number
            for record in path.read_bytes().split(b"\0")[:-1] if path.exists() else ():
                recipient = record[1:].decode()
                assert record[:1] == b"T", f"{recipient} is done and yet here"
                begun = re.findall(rf"starting delivery (\d+): msg {info.name} to {kind} (\S+)\n", log)
                delivery = [one for one, address in begun if address == recipient][-1]  # numbers are used again
                (why,) = re.findall(rf"delivery {delivery}: deferral: (.*)\n", log)
                found.append(f"{token} queued {recipient} <{sender}> | {why}".rstrip())
    return found
