"""qmail-qmtpd, qmail-qmqpd, qmail-qmqpc, qmail-qmtpc as programs: both faces, real sockets, one against the other."""

import os
import re
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_rspawn import Spawner, WideSpawner
from test_smtpd_process import DEADLINE_S, Talk

from notqmail.admin.launchers import write_launcher
from notqmail.unix.cdb import build_cdb
from notqmail.wire.netstring import encode as ns
from notqmail.wire.qmqp import Package, PackageReader, decode_package
from notqmail.wire.queue_exit import report_for_exit
from notqmail.wire.reports import Report, permanent, success, temporary

NOT_HERE = ns(b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)")
OK = re.compile(rb"[0-9]+:Kok [0-9]{10} qp 77,")
BIG = b"0123456789abcde\n" * 20_000  # more than is kept in memory


# Runs a program and says at its end how much memory it took: ru_maxrss would count what forked it as well.
SAYS_ITS_PEAK = """
import atexit, importlib, sys
atexit.register(lambda: sys.stderr.write(open("/proc/self/status").read()))
module = sys.argv.pop()
sys.exit(importlib.import_module(module).main())
"""


class Writer(socketserver.ThreadingUnixStreamServer):
    """Stands for `qmail-queue --serve`: keeps what it is given, answers as told."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self, home: Path) -> None:
        (home / "run").mkdir()
        self.answer, self.packages = b"Kok 1795334431 qp 77", list[Package]()
        super().__init__(str(home / "run/qmail-queue"), _WriterConversation)


class _WriterConversation(socketserver.BaseRequestHandler):
    server: Writer

    def handle(self) -> None:
        reader, descriptors = PackageReader(), list[int]()
        while True:
            data, fds, _, _ = socket.recv_fds(self.request, 65_536, 1)
            descriptors += fds
            if not data:
                break
            for body in reader.receive(data):
                if body != b"!":
                    self._take(decode_package(body), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _take(self, package: Package, descriptors: list[int]) -> None:
        if package.message is None:
            descriptor = descriptors.pop(0)
            package.message = os.pread(descriptor, package.length, 0)
            os.close(descriptor)
        self.server.packages.append(package)
        self.request.sendall(ns(self.server.answer))


def qmtp(message: bytes, *recipients: bytes, sender: bytes = b"s@x.test", line: bytes = b"\n") -> bytes:
    return ns(line + message) + ns(sender) + ns(b"".join(map(ns, recipients)))


def qmqp(message: bytes, *recipients: bytes, sender: bytes = b"s@x.test") -> bytes:
    return ns(ns(message) + ns(sender) + b"".join(map(ns, recipients)))


def program(name: str) -> list[str]:
    return [sys.executable, "-m", "notqmail.programs." + name.replace("-", "_")]


@pytest.fixture
def home(short_path: Path) -> Path:
    """A home that takes mail for here.test, and may deliver."""
    for directory in ("control", "queue/lock", "queue/mess/3", "bin"):
        (short_path / directory).mkdir(parents=True)
    (short_path / "control/me").write_bytes(b"mail.test\n")
    (short_path / "control/rcpthosts").write_bytes(b"here.test\n")
    (short_path / "control/timeoutremote").write_bytes(b"20\n")
    (short_path / "queue/lock/tcpto").write_bytes(bytes(1024))
    return short_path


@pytest.fixture
def writer(home: Path) -> Iterator[Writer]:
    with Writer(home) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "QMAILHOME": str(home), "DNSCACHEIP": "127.0.0.1:9", **more}


def once(name: str, home: Path, data: bytes, **environ: str) -> tuple[int, bytes]:
    """One client that says this and no more: (exit code, what it heard)."""
    done = subprocess.run(
        program(name), input=data, capture_output=True, timeout=DEADLINE_S, check=False,
        env=environment(home, **environ),
    )  # fmt: skip
    assert done.stderr == b""
    return done.returncode, done.stdout


class Listening:
    """A resident; `port` is where."""

    def __init__(self, name: str, home: Path, *options: str, host: str = "127.0.0.1") -> None:
        self.name, self.log, self._talks = name, b"", list[Talk]()
        self.process = subprocess.Popen(
            [*program(name), "--listen", f"{host}:0", *options], stderr=subprocess.PIPE, env=environment(home)
        )
        line = self.wait_for(b"listening on ")
        assert line.startswith(f"{name}: listening on {host}:".encode())
        self.address = (host.strip("[]"), int(line.rpartition(b":")[2]))

    def wait_for(self, text: bytes) -> bytes:
        """The first whole line of the log with this text."""
        assert self.process.stderr is not None
        end_s = time.monotonic() + DEADLINE_S
        while True:
            for line in self.log.split(b"\n")[:-1]:
                if text in line:
                    return line
            ready = select.select([self.process.stderr], [], [], max(0, end_s - time.monotonic()))[0]
            data = os.read(self.process.stderr.fileno(), 65_536) if ready else b""
            assert data, f"no {text!r} in {self.log!r}"
            self.log += data

    def connect(self) -> Talk:
        self._talks.append(Talk(socket.create_connection(self.address, timeout=DEADLINE_S)))
        return self._talks[-1]

    def say(self, data: bytes) -> bytes:
        """One client's dialogue, to its end."""
        talk = self.connect()
        talk.say(data)
        talk.connection.shutdown(socket.SHUT_WR)
        return talk.hear_the_end()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.log += self.process.communicate(timeout=DEADLINE_S)[1]
        return self.process.returncode

    def close(self) -> None:
        for talk in self._talks:
            talk.connection.close()
        self.process.kill()
        self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


Start = Callable[..., Listening]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    started: list[Listening] = []

    def begin(name: str, *options: str, host: str = "127.0.0.1") -> Listening:
        started.append(Listening(name, home, *options, host=host))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def queue_program(home: Path, code: int) -> str:
    """A QMAILQUEUE that takes everything and ends like this."""
    path = home / "queue-program"
    path.write_text(f"#!/bin/sh\ncat >/dev/null\ncat <&1 >/dev/null\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


# One client on descriptors 0 and 1.


def test_qmtpd_once_hands_messages_to_the_writer(home: Path, writer: Writer) -> None:
    said = qmtp(b"a\r\nb", b"x@here.test", b"y@far.test", b"z@here.test", line=b"\r") + qmtp(BIG, b"w@here.test")
    code, heard = once("qmail-qmtpd", home, said, TCPREMOTEIP="192.0.2.1")
    first, second, third, last = re.fullmatch(rb"(.*?,)(66:.*?5.7.1\),)(.*?,)(.*?,)", heard).groups()  # type: ignore[union-attr]
    assert code == 0 and second == NOT_HERE
    assert all(OK.fullmatch(answer) for answer in (first, third, last))
    small, large = writer.packages
    assert (small.sender, small.recipients) == (b"s@x.test", [b"x@here.test", b"z@here.test"])
    assert small.message is not None and large.message is not None
    assert small.message.startswith(b"Received: from unknown (192.0.2.1)\n  by unknown with QMTP; ")
    assert small.message.split(b"\n", 2)[2] == b"a\nb"
    assert large.message.split(b"\n", 2)[2] == BIG


def test_qmqpd_once_hands_a_message_to_the_writer(home: Path, writer: Writer) -> None:
    code, heard = once("qmail-qmqpd", home, qmqp(b"hi\n", b"x@anywhere.test", b"y"))
    assert code == 0 and OK.fullmatch(heard)
    (package,) = writer.packages
    assert (package.sender, package.recipients) == (b"s@x.test", [b"x@anywhere.test", b"y"])


@pytest.mark.parametrize(("name", "pack"), [("qmail-qmtpd", qmtp), ("qmail-qmqpd", qmqp)])
def test_once_tells_what_a_queue_program_s_exit_code_means(name: str, pack: Callable[..., bytes], home: Path) -> None:
    for code in (11, 31, 53, 71, 74, 91, 99):
        said = report_for_exit(code).encode()
        queue = queue_program(home, code)
        assert once(name, home, pack(b"hi\n", b"x@here.test"), QMAILQUEUE=queue) == (0, ns(said))
    missing = once(name, home, pack(b"hi\n", b"x@here.test"), QMAILQUEUE="/nowhere/queue")
    assert missing == (0, ns(b"Zunable to exec qq (#4.3.0)"))


@pytest.mark.parametrize(("name", "pack"), [("qmail-qmtpd", qmtp), ("qmail-qmqpd", qmqp)])
def test_once_queues_nothing_of_a_client_that_vanishes_or_breaks_the_protocol(
    name: str, pack: Callable[..., bytes], home: Path, writer: Writer
) -> None:
    whole = pack(b"hi\n", b"x@here.test")
    for length in (0, 3, whole.index(b"hi") + 1, len(whole) - 1):
        assert once(name, home, whole[:length]) == (0, b"")
    assert once(name, home, b"x" + whole) == (100, b"")
    assert once(name, home, b"99999999999:") == (111, b"")
    assert once(name, home / "nowhere", whole) == (111, b"")
    assert writer.packages == []


def test_qmtpd_once_needs_control_files_that_can_be_read_and_not_more(home: Path, writer: Writer) -> None:
    (home / "control/me").unlink()
    assert once("qmail-qmtpd", home, b"") == (0, b"")
    (home / "control/databytes").write_bytes(b"2\n")
    assert once("qmail-qmtpd", home, qmtp(b"hi\n", b"x"))[1].startswith(b"61:Dsorry, that message size exceeds")
    assert OK.fullmatch(once("qmail-qmtpd", home, qmtp(b"hi\n", b"x"), DATABYTES="3")[1])
    (home / "control/rcpthosts").unlink()
    assert OK.fullmatch(once("qmail-qmtpd", home, qmtp(b"hi", b"x@far.test"))[1])
    (home / "control/rcpthosts").mkdir()
    assert once("qmail-qmtpd", home, qmtp(b"hi", b"x")) == (111, b"")


@pytest.mark.parametrize("name", ["qmail-qmtpd", "qmail-qmqpd", "qmail-qmqpc", "qmail-qmtpc"])
def test_usage_is_on_request(name: str, home: Path) -> None:
    done = subprocess.run([*program(name), "--help"], capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout[:7], done.stderr) == (0, b"usage: ", b"")


@pytest.mark.parametrize("name", ["qmail-qmtpd", "qmail-qmqpd"])
def test_bad_usage_is_permanent_and_a_port_that_is_taken_is_not(name: str, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        there = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments, code in [(["--listen"], 100), (["--limit", "1"], 100), (["--listen", there], 111)]:
            done = subprocess.run(
                [*program(name), *arguments], capture_output=True, timeout=DEADLINE_S, check=False,
                env=environment(home),
            )  # fmt: skip
            assert (done.returncode, done.stdout) == (code, b"")
            assert done.stderr.startswith(name.encode() + b": ")


# Residents.


def test_qmtpd_listening_takes_packages_one_after_another(start: Start, writer: Writer) -> None:
    resident = start("qmail-qmtpd")
    talk = resident.connect()
    for number in range(3):
        talk.say(qmtp(b"%d" % number, b"x@here.test", b"y@far.test"))
        heard = talk.hear(NOT_HERE)
        assert OK.fullmatch(heard.removesuffix(NOT_HERE))
    heard = resident.say(qmtp(BIG, b"x@here.test") + qmtp(b"", b"x@here.test", b"w@here.test") + b"4:\nab")
    assert len(OK.findall(heard)) == 3
    assert [len(package.recipients) for package in writer.packages] == [1, 1, 1, 1, 2]
    assert writer.packages[3].message is not None and writer.packages[3].message.endswith(b"\n" + BIG)
    assert resident.stop() == 0
    assert resident.log.count(b"\n") == 1  # it said where it listens and nothing else


def test_qmqpd_listening_takes_one_package_from_each_client(start: Start, writer: Writer) -> None:
    resident = start("qmail-qmqpd", host="[::1]")
    talk = resident.connect()
    talk.say(qmqp(b"hi\n", b"x@anywhere.test"))
    assert OK.fullmatch(talk.hear_the_end())  # it closes, not we
    assert OK.fullmatch(resident.say(qmqp(BIG, *(b"u%d@y.test" % number for number in range(2000)))))
    writer.answer = b"Dno (#5.7.1)"
    assert resident.say(qmqp(b"", b"x")) == ns(b"Dno (#5.7.1)")
    small, large, _ = writer.packages
    assert small.message is not None and large.message is not None
    assert small.message.startswith(b"Received: from unknown (::1)\n  by ::1 with QMQP; ")
    assert (large.message.split(b"\n", 2)[2], len(large.recipients)) == (BIG, 2000)


@pytest.mark.parametrize(("name", "pack"), [("qmail-qmtpd", qmtp), ("qmail-qmqpd", qmqp)])
def test_a_resident_hangs_up_on_who_breaks_the_protocol(
    name: str, pack: Callable[..., bytes], start: Start, writer: Writer
) -> None:
    resident = start(name)
    talk = resident.connect()
    talk.say(b"hello\r\n")
    assert talk.hear_the_end() == b""
    assert OK.fullmatch(resident.say(pack(b"hi", b"x@here.test")))
    assert len(writer.packages) == 1


@pytest.mark.parametrize(("name", "pack"), [("qmail-qmtpd", qmtp), ("qmail-qmqpd", qmqp)])
def test_a_resident_without_a_writer_says_try_later(name: str, pack: Callable[..., bytes], start: Start) -> None:
    assert start(name).say(pack(b"hi", b"x@here.test")) == ns(b"Zqq trouble creating files in queue (#4.3.0)")


def test_a_resident_obeys_rules_and_limits(home: Path, start: Start, writer: Writer) -> None:
    rules = home / "rules.cdb"
    rules.write_bytes(build_cdb([(b"127.0.0.1", b"+RELAYCLIENT=@gate\0"), (b"", b"D\0")]))
    resident = start("qmail-qmtpd", "--rules", str(rules), "--limit", "1")
    assert OK.fullmatch(resident.say(qmtp(b"hi", b"x@far.test")))
    assert writer.packages[0].recipients == [b"x@far.test@gate"]
    first = resident.connect()
    first.say(b"5:\n")
    talk = resident.connect()
    assert talk.hear_the_end() == b""
    resident.wait_for(b"refused: too many connections")
    first.connection.close()
    new = home / "new.cdb"
    new.write_bytes(build_cdb([(b"", b"D\0")]))
    new.rename(rules)
    assert resident.connect().hear_the_end() == b""
    resident.wait_for(b"denied by the rules")


def test_qmtpd_listening_reads_a_changed_control_file_for_the_next_connection(
    home: Path, start: Start, writer: Writer
) -> None:
    resident = start("qmail-qmtpd")
    for number in range(20):
        (home / "control/rcpthosts").write_bytes(b"h%d.test\n" % number)
        assert OK.fullmatch(resident.say(qmtp(b"hi", b"x@h%d.test" % number)))
        assert resident.say(qmtp(b"hi", b"x@h%d.test" % (number + 1))) == NOT_HERE
    (home / "control/rcpthosts").unlink()
    (home / "control/rcpthosts").mkdir()
    assert resident.connect().hear_the_end() == b""
    resident.wait_for(b"refused: unable to read")


def test_a_resident_that_is_told_to_stop_lets_a_package_end(start: Start, writer: Writer) -> None:
    resident = start("qmail-qmtpd")
    idle, busy = resident.connect(), resident.connect()
    package = qmtp(b"hi", b"x@here.test")
    busy.say(package + package[:5])
    assert OK.fullmatch(busy.hear(b","))
    resident.process.send_signal(signal.SIGTERM)
    assert idle.hear_the_end() == b""
    busy.say(package[5:])
    assert OK.fullmatch(busy.hear_the_end())
    assert resident.process.wait(DEADLINE_S) == 0
    assert len(writer.packages) == 2


def test_a_large_message_is_never_whole_in_memory(home: Path, start: Start, writer: Writer) -> None:
    size_kb = 60_000
    (home / "large").write_bytes(b"x" * 1023 + b"\n")
    with open(home / "large", "r+b") as file:
        file.truncate(size_kb * 1024)
    (home / "envelope").write_bytes(ENVELOPE)
    resident = start("qmail-qmqpd")
    servers(home, resident.address[1])
    module = program("qmail-qmqpc")[-1]
    with open(home / "large", "rb") as on_0, open(home / "envelope", "rb") as on_1:
        client = subprocess.run(
            [sys.executable, "-c", SAYS_ITS_PEAK, module], stdin=on_0, stdout=on_1, stderr=subprocess.PIPE,
            timeout=DEADLINE_S, check=False, env=environment(home),
        )  # fmt: skip
    assert client.returncode == 0
    assert writer.packages[0].length > size_kb * 1024
    server = Path(f"/proc/{resident.process.pid}/status").read_text()
    for status in (client.stderr.decode(), server):
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak is not None
        assert int(peak[1]) < size_kb  # each of them takes some 20 MB without any message


def test_qmqpd_does_not_listen_to_the_world_without_rules(home: Path) -> None:
    done = subprocess.run(
        [*program("qmail-qmqpd"), "--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0"], capture_output=True,
        timeout=DEADLINE_S, check=False, env=environment(home),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (100, b"")
    assert b"--rules FILE.cdb is needed" in done.stderr


# Clients.


class Server:
    """A context manager: takes one connection, reads `packages` whole ones of so many netstrings, answers as told,
    closes. `heard` is what came."""

    def __init__(self, answer: bytes, *, netstrings: int, enough: int | None = None) -> None:
        self._answer, self._netstrings, self._enough = answer, netstrings, enough
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.heard = self._listener.getsockname()[1], b""
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(DEADLINE_S)

    def _serve(self) -> None:
        self._listener.settimeout(DEADLINE_S)
        try:
            link, _ = self._listener.accept()
        except OSError:
            return
        with link:
            link.settimeout(DEADLINE_S)
            while not self._is_whole():
                data = link.recv(65_536)
                if not data:
                    return
                self.heard += data
            link.sendall(self._answer)

    def _is_whole(self) -> bool:
        if self._enough is not None:
            return len(self.heard) >= self._enough
        at = 0
        for _ in range(self._netstrings):
            colon = self.heard.find(b":", at)
            if colon < 0:
                return False
            at = colon + 1 + int(self.heard[at:colon]) + 1
        return len(self.heard) >= at


def qmqpc(home: Path, message: bytes, envelope: bytes) -> int:
    """qmail-qmqpc as an injector runs it: its exit code."""
    (home / "message").write_bytes(message)
    (home / "envelope").write_bytes(envelope)
    with open(home / "message", "rb") as on_0, open(home / "envelope", "rb") as on_1:
        done = subprocess.run(
            program("qmail-qmqpc"), stdin=on_0, stdout=on_1, stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False,
            env=environment(home),
        )  # fmt: skip
    assert done.stderr == b""
    return done.returncode


ENVELOPE = b"Fs@x\0Ta@b\0Tc@d\0\0"


def servers(home: Path, *ports: int) -> None:
    (home / "control/qmqpservers").write_text("".join(f"127.0.0.1:{port}\n" for port in ports))


def test_qmqpc_hands_a_message_to_our_qmqpd(home: Path, start: Start, writer: Writer) -> None:
    servers(home, start("qmail-qmqpd").address[1])
    assert qmqpc(home, b"hi\n", ENVELOPE) == 0
    everybody = [b"u%d@y.test" % number for number in range(3000)]
    assert qmqpc(home, BIG, b"F\0" + b"".join(b"T" + one + b"\0" for one in everybody) + b"\0") == 0
    writer.answer = b"Dno"
    assert qmqpc(home, b"", b"F\0\0") == 31
    writer.answer = b"Zno"
    assert qmqpc(home, b"", b"F\0Tx\0\0") == 71
    small, large, _, _ = writer.packages
    assert (small.sender, small.recipients) == (b"s@x", [b"a@b", b"c@d"])
    assert small.message is not None and large.message is not None
    assert small.message.endswith(b"\nhi\n")
    assert (large.message.split(b"\n", 2)[2], large.sender, large.recipients) == (BIG, b"", everybody)


def test_qmqpc_sends_the_package_that_notqmail_sends(home: Path) -> None:
    with Server(b"3:Kok,", netstrings=1) as server:
        servers(home, server.port)
        assert qmqpc(home, b"hello", ENVELOPE) == 0
    assert server.heard == b"26:5:hello,3:s@x,3:a@b,3:c@d,,"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"3:Kok,", 0), (b"K", 0), (b"3:Zno,", 71), (b"3:Dno,", 31), (b"HELLO D K", 31), (b"x" * 100_000 + b"Z", 71),
        (b"", 74), (b"9:nothing?,", 74),
    ],
)  # fmt: skip
def test_qmqpc_s_exit_code_is_the_server_s_first_letter(home: Path, answer: bytes, code: int) -> None:
    with Server(answer, netstrings=1) as server:
        servers(home, server.port)
        assert qmqpc(home, b"hi\n", ENVELOPE) == code


def test_qmqpc_asks_the_next_server_only_when_there_is_no_connection(home: Path, free_port: int) -> None:
    with Server(b"3:Kok,", netstrings=1) as second:
        servers(home, free_port, second.port)
        assert qmqpc(home, b"hi\n", ENVELOPE) == 0
        with Server(b"", netstrings=1) as first:
            servers(home, first.port, second.port)
            assert qmqpc(home, b"hi\n", ENVELOPE) == 74
    servers(home, free_port)
    assert qmqpc(home, b"hi\n", ENVELOPE) == 73


def test_qmqpc_says_communication_failed_when_the_server_leaves_in_the_middle(home: Path) -> None:
    with Server(b"", netstrings=1, enough=10) as server:
        servers(home, server.port)
        assert qmqpc(home, BIG * 40, ENVELOPE) == 74


def test_qmqpc_without_servers_or_with_a_bad_envelope(home: Path, free_port: int) -> None:
    assert qmqpc(home, b"hi\n", ENVELOPE) == 55  # no file
    (home / "control/qmqpservers").write_text("mail.test\n# none\n")
    assert qmqpc(home, b"hi\n", ENVELOPE) == 55
    servers(home, free_port)
    for envelope in (b"", b"F", b"Fs\0", b"Gs\0\0", b"Fs\0Tx\0"):
        assert qmqpc(home, b"hi\n", envelope) == 91
    assert qmqpc(home, b"hi\n", b"") == 91
    (home / "control").rename(home / "gone")
    (home / "control").symlink_to("control")
    assert qmqpc(home, b"hi\n", ENVELOPE) == 55


def test_qmqpc_in_the_place_of_the_queue_serves_our_injectors(home: Path, start: Start, writer: Writer) -> None:
    servers(home, start("qmail-qmqpd").address[1])
    launcher = home / "qmqpc"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m notqmail.programs.qmail_qmqpc "$@"\n')
    launcher.chmod(0o755)
    code, heard = once("qmail-qmtpd", home, qmtp(BIG, b"x@here.test"), QMAILQUEUE=str(launcher))
    assert (code, heard[-5:-1].isdigit() or b" qp " in heard) == (0, True)
    (package,) = writer.packages
    assert package.message is not None
    assert b" with QMQP; " in package.message.split(b"\n", 2)[1]
    assert b" with QMTP; " in package.message.split(b"\n", 4)[3]
    assert package.message.endswith(BIG)


def test_qmqpc_linked_in_the_place_of_qmail_queue_is_run_and_not_passed_over(
    home: Path, start: Start, writer: Writer, tmp_path: Path
) -> None:
    without_queue = tmp_path / "mini"
    for directory in ("control", "bin"):
        (without_queue / directory).mkdir(parents=True)
    write_launcher(bytes(without_queue / "bin/qmail-qmqpc"), "qmail-qmqpc", bytes(without_queue))
    (without_queue / "bin/qmail-queue").symlink_to("qmail-qmqpc")
    servers(without_queue, start("qmail-qmqpd").address[1])
    assert b":Kok " in once("qmail-qmtpd", without_queue, qmtp(b"hi\n", b"x@y.test"))[1]
    listening = Listening("qmail-qmtpd", without_queue)
    try:
        assert b":Kok " in listening.say(qmtp(b"hi\n", b"x@y.test"))
    finally:
        listening.close()
    assert [package.recipients for package in writer.packages] == [[b"x@y.test"]] * 2


def remote(home: Path, *arguments: str, message: bytes = b"hi\n", name: str = "qmail-remote") -> bytes:
    (home / "message").write_bytes(message)
    with open(home / "message", "rb") as file:
        done = subprocess.run(
            [*program(name), *arguments], stdin=file, capture_output=True, timeout=DEADLINE_S, check=False,
            env=environment(home),
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def qmtp_route(home: Path, port: int, key: str = "") -> None:
    (home / "control/qmtproutes").write_text(f"{key}:127.0.0.1;{port}\n")


@pytest.mark.parametrize("name", ["qmail-remote", "qmail-qmtpc"])
def test_a_route_by_qmtp_leads_to_our_qmtpd(name: str, home: Path, start: Start, writer: Writer) -> None:
    qmtp_route(home, start("qmail-qmtpd").address[1])
    accepted = re.compile(rb"r\0K127\.0\.0\.1 accepted message\.\nRemote host said: ok [0-9]{10} qp 77\n\0")
    assert accepted.fullmatch(remote(home, "y.test", "s@x", "odd box@here.test", name=name))
    mid_line = remote(home, "y.test", "", "a@here.test", message=BIG + b"mid line", name=name)
    assert accepted.fullmatch(mid_line)  # which SMTP could not carry
    refused = remote(home, "y.test", "s@x", "a@far.test", name=name)
    assert refused == (
        b"h127.0.0.1 did not take it for this recipient.\nRemote host said: sorry, that domain isn't in my list of"
        b" allowed rcpthosts (#5.7.1)\n\0DGiving up on 127.0.0.1.\n\0"
    )
    writer.answer = b"Zqq write error or disk full (#4.3.0)"
    later = remote(home, "y.test", "s@x", "a@here.test", name=name)
    assert later.startswith(b"s127.0.0.1 did not take it for this recipient.\nRemote host said: qq write error")
    small, large, _ = writer.packages
    assert (small.sender, small.recipients) == (b"s@x", [b"odd box@here.test"])
    assert large.message is not None and large.message.endswith(b"\n" + BIG + b"mid line")


@pytest.mark.parametrize(
    ("answer", "enough", "said"),
    [
        (b"", None, b"ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n\0"),
        (b"", 50, b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n\0"),
        (
            b"hello,",
            None,
            b"ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"
            b"Remote host does not speak QMTP properly.\n\0",
        ),
    ],
)
def test_a_qmtp_server_that_fails_us(home: Path, answer: bytes, enough: int | None, said: bytes) -> None:
    with Server(answer, netstrings=3, enough=enough) as server:
        qmtp_route(home, server.port)
        message = b"hi\n" if enough is None else BIG * 40
        assert remote(home, "y.test", "s@x", "r@y.test", message=message) == said
    assert server.heard.startswith(b"4:\nhi\n,3:s@x,11:8:r@y.test,," if enough is None else b"12800001:\n0123")


def test_nobody_at_the_end_of_a_qmtp_route(home: Path, free_port: int) -> None:
    qmtp_route(home, free_port)
    said = b"ZSorry, I wasn't able to establish a QMTP connection. (#4.4.1)\n\0"
    assert remote(home, "y.test", "s@x", "r@y.test") == said
    assert remote(home, "y.test", "s@x", "r@y.test", name="qmail-qmtpc") == said
    assert remote(home, "y.test", "s@x", name="qmail-qmtpc").startswith(b"DI (")


def accepted_by(report: Report) -> bool:
    return report.succeeded and report.text.startswith(b"127.0.0.1 accepted message.\nRemote host said: ok ")


def test_rspawn_delivers_by_qmtp(home: Path, start: Start, writer: Writer) -> None:
    (home / "queue/mess/3/7").write_bytes(BIG + b"mid line")
    qmtp_route(home, start("qmail-qmtpd").address[1])
    with Spawner(home) as spawner:
        for slot in range(20):
            spawner.command(slot, recipient=b"r%d@here.test" % slot)
        assert all(map(accepted_by, spawner.reports(20).values()))
        refused = spawner.deliver(recipient=b"r@far.test")
        assert refused.kind == b"D" and b"allowed rcpthosts" in refused.text
        writer.answer = b"Zlater (#4.3.0)"
        assert spawner.deliver(recipient=b"r@here.test") == temporary(
            b"127.0.0.1 did not take it for this recipient.\nRemote host said: later (#4.3.0)\n"
            b"Giving up on 127.0.0.1.\n"
        )
    assert len(writer.packages) == 21
    assert {package.recipients[0] for package in writer.packages[:20]} == {b"r%d@here.test" % n for n in range(20)}
    assert all((package.message or b"").endswith(b"\n" + BIG + b"mid line") for package in writer.packages)


def test_recipients_of_one_command_ride_in_one_package_and_are_reported_each(
    home: Path, start: Start, writer: Writer
) -> None:
    (home / "queue/mess/3/7").write_bytes(b"hi\n")
    qmtp_route(home, start("qmail-qmtpd").address[1])
    with WideSpawner(home) as spawner:
        reports = spawner.delivered(300, b"a@y.test", b"b@y.test")
        assert [report.kind for report in reports] == [b"D", b"D"]  # no mail for y.test there
        (home / "control/rcpthosts").write_bytes(b"here.test\ny.test\n")
        reports = spawner.delivered(300, b"a@y.test", b"b\xff@y.test", b"c" * 1000 + b"@y.test")
        assert [report.kind for report in reports] == [b"K", b"K", b"D"]
        assert accepted_by(reports[0])
        assert reports[2].text.startswith(b"127.0.0.1 did not take it for this recipient.\nRemote host said: sorry, I")
    assert [package.recipients for package in writer.packages] == [[b"a@y.test", b"b\xff@y.test"]]
    with Server(b"3:Kok,3:Dno,", netstrings=3) as server, WideSpawner(home) as spawner:
        qmtp_route(home, server.port)
        reports = spawner.delivered(1, b"a@y.test", b"b@y.test", b"c@y.test")
    died = b"Connected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"
    assert [report.kind for report in reports] == [b"K", b"D", b"Z"]
    short = b"Remote host answered for 2 of 3 recipients; QMTP wants an answer for each.\n"
    assert reports[2] == temporary(died + short)


@pytest.mark.parametrize(
    ("answer", "enough", "report"),
    [
        (b"", None, temporary(b"Connected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n")),
        (b"", 50, temporary(b"Connected to 127.0.0.1 but connection died. (#4.4.2)\n")),
        (b"1:K,", None, success(b"127.0.0.1 accepted message.\nRemote host said: ok\n")),
        (
            b"3:Dno,", None,
            permanent(
                b"127.0.0.1 did not take it for this recipient.\nRemote host said: no\nGiving up on 127.0.0.1.\n"
            ),
        ),
    ],
)  # fmt: skip
def test_rspawn_and_a_qmtp_server_s_answers(home: Path, answer: bytes, enough: int | None, report: Report) -> None:
    (home / "queue/mess/3/7").write_bytes(b"hi\n" if enough is None else BIG * 40)
    with Server(answer, netstrings=3, enough=enough) as server, Spawner(home) as spawner:
        qmtp_route(home, server.port)
        assert spawner.deliver() == report
