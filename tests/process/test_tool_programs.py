"""predate, datemail, mailsubj, splogger and tcp-env as processes.

The tables are what notqmail 1.09's programs answered to the same, except where differences.md says otherwise.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notqmail.testing.dns_server import SERVFAIL, FakeDnsServer

MESSAGE = b"Subject: hi\n\nbody\n"
QUEUE_PROGRAM = """#!/bin/sh
cat >"$CAUGHT.message"
cat <&1 >"$CAUGHT.envelope"
exit ${QUEUE_EXIT-0}
"""
LAUNCHER = f"""#!{sys.executable} -IS
# notqmail-python launcher
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2] / "src")!r})
from notqmail.programs.{{module}} import start
start()
"""


class Site:
    """A home with launchers, its control files, and a queue program that keeps what it gets."""

    def __init__(self, place: Path) -> None:
        self.home, self.caught = place / "home", place / "caught"
        for folder in ("bin", "control"):
            (self.home / folder).mkdir(parents=True)
        (self.home / "control" / "me").write_text("host.example.org\n")
        for name in ("sendmail", "qmail-inject", "predate", "datemail", "mailsubj"):
            self.script(self.home / "bin" / name, LAUNCHER.format(module=name.replace("-", "_")))
        self.script(place / "queue", QUEUE_PROGRAM)
        self.environ = {**os.environ, "QMAILHOME": str(self.home), "QMAILQUEUE": str(place / "queue"), "USER": "joe",
                        "CAUGHT": str(self.caught), "TZ": "XXX-1:30"}  # fmt: skip

    def script(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def run(
        self, program: str, *words: str, message: bytes = MESSAGE, **environ: str
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [self.home / "bin" / program, *words], input=message, env={**self.environ, **environ},
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def queued(self) -> tuple[bytes, bytes]:
        """Message and envelope, ids and dates taken out."""
        message = self.caught.with_suffix(".message").read_bytes()
        message = re.sub(rb"<\d{14}\.\d+\.qmail@", b"<ID@", re.sub(rb"Date: [^+-]*", b"Date: NOW ", message))
        return message, self.caught.with_suffix(".envelope").read_bytes()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("zone", "offset"),
    [("UTC0", b"+0000"), ("XXX-1:30", b"+0130"), ("XXX3:30", b"-0330"), ("XXX+3:29:40", b"-0330"),
     ("XXX0:0:20", b"-0000")],
)  # fmt: skip
def test_predate_puts_the_local_date_on_top(site: Site, zone: str, offset: bytes) -> None:
    done = site.run("predate", "cat", TZ=zone)
    assert (done.returncode, done.stderr) == (0, b"")
    date, _, rest = done.stdout.partition(b"\n")
    assert re.fullmatch(rb"Date: [1-9]\d? [A-Z][a-z]{2} 20\d\d \d\d:\d\d:\d\d " + re.escape(offset), date)
    assert rest == MESSAGE


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ((), 100, b"predate: usage: predate child\n"),
        (("sh", "-c", "exit 7"), 7, b""),
        (("sh", "-c", "cat >/dev/null; kill -9 $$"), 111, b"predate: fatal: child crashed\n"),
        (("/no/prog",), 111, b"predate: fatal: unable to run /no/prog: file does not exist\n"),
    ],
)
def test_predate_ends_as_its_program_does(site: Site, words: tuple[str, ...], code: int, complaint: bytes) -> None:
    for message in (MESSAGE, b"a" * 300_000):
        done = site.run("predate", *words, message=message)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", complaint)


def test_datemail_is_sendmail_with_a_date(site: Site) -> None:
    done = site.run("datemail", "-f", "q@x.y", "a@x.y")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert site.queued == (
        b"Message-ID: <ID@host.example.org>\nFrom: q@x.y\nCc: recipient list not shown: ;\nDate: NOW +0130\n" + MESSAGE,
        b"Fq@x.y\0Ta@x.y\0\0",
    )


def test_datemail_ends_as_sendmail_does(site: Site) -> None:
    refused = site.run("datemail", "-z")
    assert refused.returncode == 100 and refused.stderr.startswith(b"sendmail: illegal option -- z\n")
    assert site.run("datemail", "a@x.y", QUEUE_EXIT="53").returncode == 111


def test_mailsubj_sends_its_text(site: Site) -> None:
    done = site.run("mailsubj", "two words", "a@x.y", "joe", message=b"To: nobody\n\nbody")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    message, envelope = site.queued
    assert message.endswith(b"Subject: two words\nTo: a@x.y, joe@host.example.org\n\nTo: nobody\n\nbody\n")
    assert envelope == b"Fjoe@host.example.org\0Tjoe@host.example.org\0Ta@x.y\0\0"


@pytest.mark.parametrize(
    ("words", "queue_exit", "code", "complaint"),
    [
        (("s", "a@x.y"), "31", 100, b"qmail-inject: fatal: mail server permanently rejected message (#5.3.0)\n"),
        (("s", "a@x.y"), "53", 111, b"qmail-inject: fatal: qq write error or disk full (#4.3.0)\n"),
        (("s", "(x"), "0", 100, b"qmail-inject: fatal: unable to parse this line:\nTo: (x\n"),
        ((), "0", 100, b"mailsubj: usage: mailsubj subject recipient ...\n"),
    ],
)
def test_mailsubj_ends_as_qmail_inject_does(
    site: Site, words: tuple[str, ...], queue_exit: str, code: int, complaint: bytes
) -> None:
    done = site.run("mailsubj", *words, QUEUE_EXIT=queue_exit)
    assert (done.returncode, done.stderr) == (code, complaint)


def test_mailsubj_feeds_a_qmail_inject_of_somebody_else(site: Site) -> None:
    site.script(site.home / "bin" / "qmail-inject", "#!/bin/sh\necho $#; cat; exit 8\n")
    done = site.run("mailsubj", "s", "a@x.y")
    assert (done.returncode, done.stdout) == (8, b"0\nSubject: s\nTo: a@x.y\n\n" + MESSAGE)


@pytest.mark.parametrize("program", ["predate", "datemail", "mailsubj"])
def test_help_is_told(site: Site, program: str) -> None:
    done = site.run(program, "--help")
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(b"usage: " + program.encode())


class Syslog:
    """/dev/log in a mount namespace of its own, and who runs in there."""

    def __init__(self, place: Path) -> None:
        self.devices = place
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(place / "log"))
        self.socket.setblocking(False)
        os.mknod(place / "null", 0o020666, os.makedev(1, 3))

    def run(self, *words: str, data: bytes) -> tuple[int, list[bytes]]:
        """Exit code, and the datagrams with date and stamp taken out."""
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", f"mount --bind '{self.devices}' /dev && exec \"$@\"", "sh", sys.executable,
             "-m", "notqmail.programs.splogger", *words],
            input=data, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout + done.stderr == b""
        return done.returncode, [
            re.sub(rb">... .. ..:..:.. ", b">", re.sub(rb"\d{10}\.\d{6}", b"STAMP", datagram))
            for datagram in self._all()
        ]

    def _all(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(10_000))
            except BlockingIOError:
                return found


@pytest.fixture
def syslog(short_path: Path) -> Iterator[Syslog]:
    trial = subprocess.run(
        ["unshare", "-m", "mount", "--bind", short_path, "/dev"], capture_output=True, timeout=60, check=False
    ) if shutil.which("unshare") else None  # fmt: skip
    if trial is None or trial.returncode:
        pytest.skip("no mount namespaces here")
    log = Syslog(short_path)
    yield log
    log.socket.close()


@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "data", "datagrams"),
    [
        ((), b"hello\nalert: x\nwarning: y\n",
         [b"<22>splogger: STAMP hello", b"<17>splogger: STAMP alert: x", b"<20>splogger: STAMP warning: y"]),
        (("t%s", "3"), b"%s%n\n", [b"<30>t%s: STAMP %s%n"]),
        (("tag", "24"), b"x\n", [b"<198>tag: STAMP x"]),
        (("tag", "536870914"), b"x\n", [b"<22>tag: STAMP x"]),
        (("tag", "99999999999"), b"x\n", [b"<14>tag: STAMP x"]),
        ((), b"a" * 800, [b"<22>splogger: STAMP " + b"a" * 799, b"<22>splogger: STAMP+a"]),
        ((), b"", []),
    ],
)  # fmt: skip
def test_splogger_speaks_to_syslog(syslog: Syslog, words: tuple[str, ...], data: bytes, datagrams: list[bytes]) -> None:
    assert syslog.run(*words, data=data) == (0, datagrams)


class Connection:
    """A TCP connection on loopback; tcp-env gets its server's end as descriptor 0."""

    def __init__(self, dns: FakeDnsServer) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._client = socket.create_connection(listener.getsockname())
            self._server, _ = listener.accept()
        self.environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"],
                        "DNSCACHEIP": "{}:{}".format(*dns.address)}  # fmt: skip

    def run(self, *words: str, stdin: "socket.socket | int | None" = None, **environ: str) -> tuple[int, list[str]]:
        """Exit code, and the lines that the program printed, our own variables left out."""
        done = subprocess.run(
            [sys.executable, "-m", "notqmail.programs.tcp_env", *words], stdin=stdin or self._server,
            env={**self.environ, **environ}, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stderr == b"", "descriptor 2 may be the client"
        lines = done.stdout.decode().splitlines()
        return done.returncode, sorted(line for line in lines if line.partition("=")[0] not in self.environ)

    @property
    def known(self) -> list[str]:
        """What is told without DNS and ident."""
        port, peer = self._server.getsockname()[1], self._client.getsockname()[1]
        return ["PROTO=TCP", "TCPLOCALIP=127.0.0.1", f"TCPLOCALPORT={port}", "TCPREMOTEIP=127.0.0.1",
                f"TCPREMOTEPORT={peer}"]  # fmt: skip

    def close(self) -> None:
        self._client.close()
        self._server.close()


@pytest.fixture
def dns() -> Iterator[FakeDnsServer]:
    with FakeDnsServer() as server:
        yield server


@pytest.fixture
def connection(dns: FakeDnsServer) -> Iterator[Connection]:
    made = Connection(dns)
    yield made
    made.close()


REVERSE = "1.0.0.127.in-addr.arpa"


def test_a_client_without_a_name_has_none(connection: Connection) -> None:
    lies = {"TCPREMOTEHOST": "a lie", "TCPREMOTEINFO": "a lie", "TCPREMOTEIP": "9.9.9.9", "PROTO": "UDP"}
    assert connection.run("-R", "env", **lies) == (0, connection.known)


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        ("PTR", ("Mail.Example.",), "mail.example"),
        ("PTR", ("one.example.", "two.example."), "one.example"),
        ("PTR", (r"we\.ird\032\000\200.x.",), r"we\.ird\032\000\200.x"),
        ("CNAME", ("1.0-127.example.",), "delegated.example"),
    ],
)
def test_the_dns_names_the_client(
    connection: Connection, dns: FakeDnsServer, kind: str, value: tuple[str, ...], name: str
) -> None:
    dns.records(REVERSE, kind, *value)
    dns.records("1.0-127.example", "PTR", "Delegated.Example.")
    expected = sorted([*connection.known, f"TCPLOCALHOST={name}", f"TCPREMOTEHOST={name}"])
    assert connection.run("-R", "env") == (0, expected)


def test_a_dns_that_cannot_tell_is_said_to_be_one(connection: Connection, dns: FakeDnsServer) -> None:
    dns.misbehave(REVERSE, SERVFAIL)
    assert "TCPREMOTEHOST=softdnserror" in connection.run("-R", "env")[1]


def test_what_tcpserver_has_told_stays(connection: Connection, dns: FakeDnsServer) -> None:
    told = {"PROTO": "TCP", "TCPREMOTEIP": "192.0.2.7"}
    assert connection.run("env", **told) == (0, ["PROTO=TCP", "TCPREMOTEIP=192.0.2.7"])
    assert dns.questions == []


@pytest.mark.parametrize("words", [(), ("-R",), ("-t",), ("-R", "no-such-program"), ("-R", "/")])
def test_tcp_env_without_a_program_fails_silently(connection: Connection, words: tuple[str, ...]) -> None:
    assert connection.run(*words) == (111, [])


def test_tcp_env_without_a_connection_fails_silently(connection: Connection) -> None:
    assert connection.run("-R", "env", stdin=subprocess.DEVNULL) == (111, [])


def test_the_program_has_the_connection_and_ordinary_signals(connection: Connection) -> None:
    code, [line] = connection.run("-R", "sh", "-c", "test -S /dev/fd/0 && grep SigIgn: /proc/self/status")
    ignored = int(line.split()[1], 16)
    assert code == 0 and not ignored & (1 << 12 | 1 << 24), "SIGPIPE and SIGXFSZ"
