"""Real POP3 clients against qmail-popup, checkpassword and qmail-pop3d under tcpserver, in a single-user home.

As root the home belongs to another account, in a mount namespace that has it: qmail-pop3d does not serve root.
"""

import getpass
import os
import poplib
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from interop_system import DEADLINE_S, PATH, free_port, listens, program, wait_for

import notqmail

sys.path.append(str(Path(__file__).parents[1] / "process"))
from classic_house import Machine, interpreter, open_directory

pytestmark = pytest.mark.debian("tcpserver")
PASSWORD = "correct horse: battery"
MESSAGES = (
    b"Return-Path: <a@x.test>\nFrom: a@x.test\nTo: joe@mail.test\nSubject: first\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\nMessage-ID: <1@x.test>\n\nfirst\n.dot\n..\n.\nlast\n",
    b"From: b@x.test\nTo: joe@mail.test\nSubject: second\nMessage-ID: <2@x.test>\n\n"
    + b"".join(b"%04d %b\n" % (line, b"x" * 60) for line in range(3_000)),
    b"From: c@x.test\nTo: joe@mail.test\nSubject: third\nMessage-ID: <3@x.test>\n\nGr\xc3\xbc\xc3\x9fe\n",
)


class PostOffice:
    """A home with a Maildir of three messages, and its POP3 server on `port` for `user`."""

    def __init__(self, base: Path, machine: Machine | None) -> None:
        self.base, self.home, self._machine = base, base / "var", machine
        self.user = "alice" if machine else getpass.getuser()
        self.port = free_port()
        python, self._environ = sys.executable, {"PATH": f"{self.home}/bin:{PATH}"}
        if machine:
            python = interpreter()
            shutil.copytree(os.path.dirname(os.path.realpath(notqmail.__file__)), base / "lib" / "notqmail",
                            ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
            for path in (base / "lib").rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
            self.home.mkdir()
            os.chown(self.home, machine.uid["alice"], machine.gid["alice"])
        else:
            (base / "lib").symlink_to(os.path.dirname(os.path.dirname(os.path.realpath(notqmail.__file__))))
        self.run([python, "-m", "notqmail.admin", "init", str(self.home)], PYTHONPATH=str(base / "lib"))
        line = self.run([f"{self.home}/bin/checkpassword", "--make", self.user], PASSWORD.encode() + b"\n")
        self.write(self.home / "control" / "passwords", line.decode())
        for number, message in enumerate(MESSAGES, 1):
            path = self.home / "Maildir" / "new" / f"17000000{number:02}.P1.h"
            self.write(path, message.decode())
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        self._server: subprocess.Popen[bytes] | None = None

    def write(self, path: Path, text: str) -> None:
        """A file of the owner's."""
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        self.owns(path)

    def owns(self, path: Path) -> None:
        """Makes it the owner's."""
        if self._machine:
            os.chown(path, self._machine.uid["alice"], self._machine.gid["alice"])

    def argv(self, command: list[str]) -> list[str]:
        """`command` as the home's owner."""
        return self._machine.argv(command, "alice") if self._machine else command

    def run(self, command: list[str], data: bytes = b"", **environ: str) -> bytes:
        """What a command of the owner's printed."""
        done = subprocess.run(self.argv(command), input=data, capture_output=True, timeout=DEADLINE_S, cwd="/",
                              env=self._environ | environ, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """The server as the man page has it; returns when it listens."""
        bin_ = f"{self.home}/bin"
        command = [program("tcpserver"), "-H", "-R", "-l0", "127.0.0.1", str(self.port), f"{bin_}/qmail-popup",
                   "mail.test", f"{bin_}/checkpassword", f"{bin_}/qmail-pop3d", "Maildir"]  # fmt: skip
        log = (self.base / "log").open("wb")
        with log:
            self._server = subprocess.Popen(self.argv(command), env=self._environ, cwd="/", stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)  # fmt: skip
        wait_for(lambda: listens(self.port), "tcpserver", look=(self.base / "log").read_text)

    def stop(self) -> None:
        """No server, and no session of it."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(DEADLINE_S)
        wait_for(lambda: not self._sessions(), "the sessions' end", look=lambda: str(self._sessions()))

    def _sessions(self) -> list[str]:
        commands = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if f"{self.home}/bin/qmail-po".encode() in command:
                commands.append(command.replace(b"\0", b" ").decode())
        return commands

    def stored(self) -> dict[str, list[str]]:
        """The names of the messages in new and cur."""
        return {name: sorted(os.listdir(self.home / "Maildir" / name)) for name in ("new", "cur")}

    def client(self) -> poplib.POP3:
        """A client that has not logged in."""
        return poplib.POP3("127.0.0.1", self.port, timeout=DEADLINE_S)


@pytest.fixture
def office() -> Iterator[PostOffice]:
    base = open_directory()
    machine = Machine(base) if os.geteuid() == 0 else None
    try:
        made = PostOffice(base, machine)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        if machine:
            machine.close()
        shutil.rmtree(base)


def as_lines(message: bytes) -> list[bytes]:
    return [*message.split(b"\n")[:-1], b""]  # qmail-pop3d's one more empty line


def test_poplib_reads_lists_and_deletes(office: PostOffice) -> None:
    client = office.client()
    assert set(client.capa()) == {"TOP", "USER", "UIDL"}
    client.user(office.user)
    client.pass_(PASSWORD)
    assert set(client.capa()) == {"TOP", "USER", "UIDL"}
    assert client.stat() == (3, sum(map(len, MESSAGES)))
    assert client.list()[1] == [b"%d %d" % (number, len(text)) for number, text in enumerate(MESSAGES, 1)]
    assert client.uidl()[1] == [b"%d 17000000%02d.P1.h" % (number, number) for number in (1, 2, 3)]
    for number, text in enumerate(MESSAGES, 1):
        assert client.retr(number)[1] == as_lines(text)
    assert client.top(2, 2)[1] == [*as_lines(MESSAGES[1])[:7], b""]
    client.dele(2)
    assert office.stored() == {"new": [f"17000000{number:02}.P1.h" for number in (1, 2, 3)], "cur": []}
    client.quit()
    wait_for(lambda: not office.stored()["new"], "the end of the session")
    assert office.stored()["cur"] == ["1700000001.P1.h:2,", "1700000003.P1.h:2,"]


def test_without_quit_nothing_is_deleted(office: PostOffice) -> None:
    client = office.client()
    client.user(office.user)
    client.pass_(PASSWORD)
    client.dele(1)
    client.close()
    office.stop()
    assert len(office.stored()["new"]) == 3


@pytest.mark.parametrize(("user", "password"), [(None, "wrong"), ("nobody-here", PASSWORD), (None, PASSWORD + "x")])
def test_a_wrong_login_is_refused(office: PostOffice, user: str | None, password: str) -> None:
    client = office.client()
    client.user(user or office.user)
    with pytest.raises(poplib.error_proto, match="-ERR authorization failed"):
        client.pass_(password)
    client.close()


def test_apop_cannot_be_checked_against_a_hash(office: PostOffice) -> None:
    client = office.client()
    with pytest.raises(poplib.error_proto, match="-ERR authorization failed"):
        client.apop(office.user, PASSWORD)
    client.close()


def test_a_client_that_sends_everything_at_once_gets_every_answer(office: PostOffice) -> None:
    """C qmail-popup loses what follows PASS in the same packet."""
    with socket.create_connection(("127.0.0.1", office.port), DEADLINE_S) as client:
        client.sendall(f"USER {office.user}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode())
        said = b"".join(iter(lambda: client.recv(65_536), b""))
    assert said.split(b"\r\n")[1:] == [b"+OK ", b"+OK ", b"+OK 3 %d" % sum(map(len, MESSAGES)), b"+OK ", b""]


def test_fetchmail_fetches_all_and_deletes_them(office: PostOffice, tmp_path: Path) -> None:
    settings = tmp_path / "fetchmailrc"
    settings.write_text(
        f'poll 127.0.0.1 service {office.port} protocol pop3 user "{office.user}" password "{PASSWORD}" sslproto "" '
        f'fetchall no keep no rewrite mda "cat >> {tmp_path}/mbox"\n'
    )
    settings.chmod(0o600)
    done = subprocess.run(
        [program("fetchmail"), "-f", str(settings), "--pidfile", str(tmp_path / "pid"), "--nosyslog", "--uidl", "-v"],
        capture_output=True, timeout=DEADLINE_S, env={"PATH": PATH, "FETCHMAILHOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    got = (tmp_path / "mbox").read_bytes()
    for message in MESSAGES:
        assert message.partition(b"\n\n")[2].replace(b"\r\n", b"\n") in got.replace(b"\r\n", b"\n")
    wait_for(lambda: office.stored() == {"new": [], "cur": []}, "the deletions")


def test_getmail_fetches_all_and_leaves_them(office: PostOffice) -> None:
    place = office.home / "elsewhere"
    office.run([f"{office.home}/bin/maildirmake", str(place)])
    office.write(
        place / "getmailrc",
        f"[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {office.port}\nusername = {office.user}\n"
        f"password = {PASSWORD}\n[destination]\ntype = Maildir\npath = {place}/\n"
        "[options]\nread_all = false\ndelete = false\ndelivered_to = false\nreceived = false\n",
    )
    for retrieved, skipped in ((3, 0), (0, 3)):  # the second time it knows them by UIDL
        command = [program("getmail"), "--getmaildir", str(place), "--rcfile", "getmailrc"]
        said = office.run(command, HOME=str(place)).decode()  # as the owner: getmail delivers nothing as root
        assert f"{retrieved} messages" in said and f"{skipped} skipped" in said, said
    got = sorted((path.read_bytes() for path in (place / "new").iterdir()), key=len)
    for text, message in zip(got, sorted(MESSAGES, key=len), strict=True):
        assert text.partition(b"\n\n")[2].rstrip(b"\n") == message.partition(b"\n\n")[2].rstrip(b"\n")
    wait_for(lambda: not office.stored()["new"], "QUIT's moves")
    assert len(office.stored()["cur"]) == 3


def test_mutt_shows_and_saves_a_message(office: PostOffice, tmp_path: Path) -> None:
    (tmp_path / "muttrc").write_text(
        f'set pop_pass="{PASSWORD}"\nset folder="{tmp_path}"\nset confirmappend=no\nset confirmcreate=no\n'
        f"set copy=no\nset pop_last=no\n"
        f"set mbox_type=mbox\nset quit=yes\nset sort=mailbox-order\nset ssl_starttls=no\nset ssl_force_tls=no\n"
        f'set pop_authenticators="user"\n'
        f'push "<first-entry><copy-message>{tmp_path}/saved<enter><exit>"\n'
    )
    url = f"pop://{office.user}@127.0.0.1:{office.port}"
    parent, child = pty.openpty()
    mutt = subprocess.Popen(
        [program("mutt"), "-F", str(tmp_path / "muttrc"), "-f", url], stdin=child, stdout=child, stderr=child,
        env={"PATH": PATH, "HOME": str(tmp_path), "TERM": "vt100", "LC_ALL": "C"},
    )  # fmt: skip
    os.close(child)
    shown, end = b"", time.monotonic() + DEADLINE_S
    while mutt.poll() is None and time.monotonic() < end:
        if select.select([parent], [], [], 0.1)[0]:
            try:
                shown += os.read(parent, 65_536)
            except OSError:
                break  # it has closed its terminal
    os.close(parent)
    try:
        mutt.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        mutt.kill()
        mutt.wait()
    assert (tmp_path / "saved").exists(), shown.decode("latin-1")
    saved = (tmp_path / "saved").read_bytes()
    assert b"Subject: first\n" in saved and b"\nfirst\n.dot\n..\n.\nlast\n" in saved
    assert len(office.stored()["new"] + office.stored()["cur"]) == 3


def test_the_how_to_page_typed(office: PostOffice) -> None:
    """docs/how-to/pop3.md, by the home's owner; ```console blocks are only looked at."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "pop3.md").read_text()
    script = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    assert script.count("1110") == 2
    place = office.base / "person"
    place.mkdir()
    (place / "var").symlink_to(office.home)
    office.owns(place)
    script = f"cd {place}; trap 'kill %1; wait' EXIT\n{script}".replace("1110", str(free_port()))
    said = office.run(["bash", "-eu", "-o", "pipefail", "-c", script])
    assert said.splitlines()[-1] == b"3 messages, %d bytes" % sum(map(len, MESSAGES))
    assert len(office.stored()["cur"]) == 3
