"""qmail-smtpd as it is installed: one client on descriptors 0 and 1, and as a resident on loopback."""

import os
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

from notqmail.testing.transcripts import Transcript, is_heard, parse_transcript
from notqmail.unix.cdb import build_cdb
from notqmail.wire.netstring import encode
from notqmail.wire.qmqp import Package, PackageReader, decode_package

DEADLINE_S = 60.0
TRANSCRIPTS = sorted((Path(__file__).parent.parent / "transcripts").glob("*.smtp"))
SMTPD = [sys.executable, "-m", "notqmail.programs.qmail_smtpd"]


class FakeWriter(socketserver.ThreadingUnixStreamServer):
    """Stands for `qmail-queue --serve`: keeps what it is given, answers as told."""

    daemon_threads = True

    def __init__(self, home: Path) -> None:
        (home / "run").mkdir()
        self.answer, self.packages = b"Kok 1795334431 qp 77", list[Package]()
        super().__init__(str(home / "run/qmail-queue"), _WriterConversation)


class _WriterConversation(socketserver.BaseRequestHandler):
    server: FakeWriter

    def handle(self) -> None:
        reader = PackageReader()
        while True:
            data, fds, _, _ = socket.recv_fds(self.request, 65_536, 1)
            if not data:
                return
            for body in reader.receive(data):
                if body == b"!":
                    continue
                package = decode_package(body)
                if package.message is None:
                    package.message = os.pread(fds[0], package.length, 0)
                for descriptor in fds:
                    os.close(descriptor)
                fds = []
                self.server.packages.append(package)
                self.request.sendall(encode(self.server.answer))


class Talk:
    """A client on a socket that remembers what it heard and forgets it when asked."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self._heard = connection, b""
        connection.settimeout(DEADLINE_S)

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hear(self, ends: bytes = b"\r\n") -> bytes:
        """Reads until what was heard ends like this."""
        while not self._heard.endswith(ends):
            data = self.connection.recv(65_536)
            assert data, f"closed after {self._heard!r}"
            self._heard += data
        heard, self._heard = self._heard, b""
        return heard

    def hear_lines(self, count: int) -> bytes:
        """Reads exactly so many lines."""
        while self._heard.count(b"\n") < count:
            data = self.connection.recv(65_536)
            assert data, f"closed after {self._heard!r}"
            self._heard += data
        lines = self._heard.split(b"\n")
        self._heard = b"\n".join(lines[count:])
        return b"\n".join(lines[:count]) + b"\n"

    def hear_the_end(self) -> bytes:
        """Everything until the server closes."""
        while data := self.connection.recv(65_536):
            self._heard += data
        return self._heard


class Resident:
    """A listening qmail-smtpd; `log` is what it said on descriptor 2 so far."""

    def __init__(
        self, home: Path, *options: str, environ: dict[str, str] | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.log, self._talks = b"", list[Talk]()
        address = f"[{host}]:0" if ":" in host else f"{host}:0"
        self.process = subprocess.Popen(
            [*SMTPD, "--listen", address, *options], stderr=subprocess.PIPE,
            env={**os.environ, "QMAILHOME": str(home), **(environ or {})},
        )  # fmt: skip
        line = self.wait_for(b"listening on ")
        assert line.startswith(b"qmail-smtpd: listening on " + address[:-1].encode())
        self.address = (host, int(line.rpartition(b":")[2]))

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

    def close(self) -> None:
        """Ends what still runs and closes the clients."""
        for talk in self._talks:
            talk.connection.close()
        self.process.kill()
        self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.log += self.process.communicate(timeout=DEADLINE_S)[1]
        return self.process.returncode


@pytest.fixture
def home(short_path: Path) -> Path:
    """A home with a name, and nothing else."""
    (short_path / "control").mkdir()
    (short_path / "control/me").write_bytes(b"mail.test\n")
    return short_path


@pytest.fixture
def writer(home: Path) -> Iterator[FakeWriter]:
    with FakeWriter(home) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Start = Callable[..., Resident]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts residents; whatever still runs at the end is killed."""
    started: list[Resident] = []

    def begin(*options: str, environ: dict[str, str] | None = None, host: str = "127.0.0.1") -> Resident:
        started.append(Resident(home, *options, environ=environ, host=host))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def queue_program(home: Path, transcript: Transcript) -> Path:
    """A QMAILQUEUE that keeps what it is given in files and answers as the transcript wants."""
    letter, _, text = transcript.queue.partition(" ")
    program = home / "queue-program"
    answer = "exit 0" if letter == "K" else f"printf '%s' '{letter}{text}' >&6; exit 82"
    program.write_text(f"#!/bin/sh\ncat >{home}/message.$$\ncat <&1 >{home}/envelope.$$\n{answer}\n")
    program.chmod(0o755)
    return program


def taken_by_program(home: Path) -> dict[bytes, bytes]:
    """Message by envelope, of what the queue program was given whole."""
    taken = {}
    for path in home.glob("envelope.*"):
        envelope = path.read_bytes()
        if envelope.endswith(b"\0\0"):
            taken[envelope] = path.with_name(path.name.replace("envelope", "message")).read_bytes()
    return taken


def play(transcript: Transcript, talk: Talk) -> None:
    """The dialogue, with what is queued left for afterwards."""
    for step in transcript.steps:
        if step.kind == "say":
            talk.say(step.data)
        elif step.kind == "hear":
            heard = talk.hear_lines(step.data.count(b"\n"))
            assert is_heard(step.data, heard), (step.data, heard)
        elif step.kind == "closed":
            assert talk.hear_the_end() == b""


def check_queued(transcript: Transcript, taken: dict[bytes, bytes]) -> None:
    """What the transcript wants queued is what was taken."""
    want = [step.queued for step in transcript.steps if step.queued is not None]
    if transcript.queue == "K":
        assert len(taken) == len(want)
    for one in want:
        envelope = b"F" + one.sender + b"\0" + b"".join(b"T" + to + b"\0" for to in one.recipients) + b"\0"
        assert envelope in taken
        assert one.text in (None, taken[envelope].split(b"\n", 2)[2])


def prepare(home: Path, path: Path) -> tuple[Transcript, dict[str, str]]:
    """The transcript, its control files written, and the environment for its program."""
    transcript = parse_transcript(path.read_text())
    if "session" in transcript.notes:
        pytest.skip("a dialogue for the session in memory only")
    (home / "control/me").unlink()
    for name, value in transcript.controls.items():
        (home / "control" / name).write_bytes(value)
    environ = {name.decode(): value.decode() for name, value in transcript.environ.items()}
    return transcript, {**environ, "QMAILQUEUE": str(queue_program(home, transcript))}


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_one_shot_says_what_the_transcript_says(path: Path, home: Path) -> None:
    transcript, environ = prepare(home, path)
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            SMTPD, stdin=theirs, stdout=theirs, env={**os.environ, "QMAILHOME": str(home), **environ}
        ) as process,
    ):
        theirs.close()
        play(transcript, Talk(ours))
        assert process.wait(DEADLINE_S) == transcript.steps[-1].exit_code
    check_queued(transcript, taken_by_program(home))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_resident_says_what_the_transcript_says(path: Path, home: Path, start: Start) -> None:
    transcript, environ = prepare(home, path)
    resident = start(environ=environ)
    play(transcript, resident.connect())
    assert resident.stop() == 0
    check_queued(transcript, taken_by_program(home))


MESSAGE = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n%b\r\n.\r\nQUIT\r\n"


def test_one_shot_hands_a_message_to_the_writer(home: Path, writer: FakeWriter) -> None:
    done = subprocess.run(
        SMTPD, input=b"EHLO x\r\n" + MESSAGE % b"hi", capture_output=True, timeout=DEADLINE_S, check=False,
        env={**os.environ, "QMAILHOME": str(home)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert is_heard(b"250 2.0.0 ok <time> qp <qp>", done.stdout.split(b"\r\n")[-3])
    (package,) = writer.packages
    assert (package.sender, package.recipients) == (b"a@b", [b"c@d"])


def test_one_shot_is_timed_out(home: Path) -> None:
    (home / "control/timeoutsmtpd").write_text("0\n")  # which counts as 1
    process = subprocess.Popen(
        SMTPD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "QMAILHOME": str(home)}
    )
    assert process.stdout is not None
    heard = process.stdout.read()
    assert heard == b"220 mail.test ESMTP\r\n451 timeout (#4.4.2)\r\n"
    assert process.wait(DEADLINE_S) == 1
    process.communicate()


def test_one_shot_ends_silently_when_the_client_vanishes(home: Path, writer: FakeWriter) -> None:
    whole = MESSAGE % b"hi"
    for length in (0, 10, whole.index(b"hi"), whole.index(b".\r\nQUIT")):
        done = subprocess.run(
            SMTPD, input=whole[:length], capture_output=True, timeout=DEADLINE_S, check=False,
            env={**os.environ, "QMAILHOME": str(home)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (1, b"")
    assert writer.packages == []


def test_one_shot_ignores_arguments_of_old_patches(home: Path) -> None:
    done = subprocess.run(
        [*SMTPD, "mail.test", "/bin/checkpassword", "/bin/true"], input=b"QUIT\r\n", capture_output=True,
        timeout=DEADLINE_S, check=False, env={**os.environ, "QMAILHOME": str(home)},
    )  # fmt: skip
    assert done.stdout == b"220 mail.test ESMTP\r\n221 mail.test\r\n"


def test_usage_is_on_request_and_bad_usage_is_permanent(home: Path) -> None:
    for arguments, code, said in [(["--help"], 0, b"usage:"), (["--listen"], 100, b""), (["--limit", "1"], 100, b"")]:
        done = subprocess.run([*SMTPD, *arguments], capture_output=True, timeout=DEADLINE_S, check=False)
        assert (done.returncode, done.stdout[:6]) == (code, said)


def test_resident_hands_messages_to_the_writer(start: Start, writer: FakeWriter) -> None:
    resident = start()
    talk = resident.connect()
    big = b"x" * 70 + b"\r\n"
    talk.say(b"EHLO x\r\n" + (MESSAGE % b"small").replace(b"QUIT\r\n", b"") + MESSAGE % (big * 2000))
    assert talk.hear_the_end().count(b"250 2.0.0 ok ") == 2
    assert resident.stop() == 0
    small, large = writer.packages
    assert small.message is not None and large.message is not None
    assert small.message.startswith(b"Received: from unknown (HELO x) (127.0.0.1)\n  by 127.0.0.1 with ESMTP; ")
    assert small.message.endswith(b"\nsmall\n")
    assert large.message.split(b"\n", 2)[2] == (b"x" * 70 + b"\n") * 2000 + b"\n"
    assert resident.log.count(b"\n") == 1  # it said where it listens and nothing else


def test_resident_tells_the_writers_number_and_its_refusals(start: Start, writer: FakeWriter) -> None:
    talk = start().connect()
    for answer, said in [
        (b"Kok 1 qp 4711", b"250 ok <time> qp 4711\r\n"),
        (b"Dno (#5.7.1)", b"554 no (#5.7.1)\r\n"),
        (b"Zqq write error or disk full (#4.3.0)", b"451 qq write error or disk full (#4.3.0)\r\n"),
    ]:
        writer.answer = answer
        talk.say((MESSAGE % b"hi").replace(b"QUIT", b"NOOP"))
        lines = talk.hear_lines(6 if answer[:2] == b"Ko" else 5).splitlines(keepends=True)
        assert is_heard(said, lines[-2])


def test_resident_without_a_writer_says_try_later(start: Start) -> None:
    talk = start().connect()
    talk.say(MESSAGE % b"hi")
    assert b"\r\n451 qq trouble creating files in queue (#4.3.0)\r\n" in talk.hear_the_end()


def test_resident_answers_a_client_that_has_closed_its_half(start: Start, writer: FakeWriter) -> None:
    talk = start().connect()
    talk.say((MESSAGE % b"hi").replace(b"QUIT\r\n", b""))
    talk.connection.shutdown(socket.SHUT_WR)
    assert is_heard(b"250 ok <time> qp 77", talk.hear_the_end().split(b"\r\n")[-2])
    assert len(writer.packages) == 1


def test_resident_runs_a_foreign_queue_program(home: Path, start: Start, writer: FakeWriter) -> None:
    (home / "bin").mkdir()
    resident = start()
    foreign = queue_program(home, parse_transcript("@queue D not here (#5.7.1)"))
    foreign.rename(home / "bin/qmail-queue")
    talk = resident.connect()
    talk.say(MESSAGE % b"hi")
    assert b"\r\n554 not here (#5.7.1)\r\n" in talk.hear_the_end()
    (home / "bin/qmail-queue").unlink()
    talk = resident.connect()
    talk.say(MESSAGE % b"hi")
    talk.hear_the_end()
    assert len(writer.packages) == 1


def test_resident_reads_a_changed_control_file_for_the_next_connection(home: Path, start: Start) -> None:
    resident = start()
    for number in range(30):
        name = b"mail%02d.test" % number
        (home / "control/me").write_bytes(name + b"\n")
        assert resident.connect().hear() == b"220 " + name + b" ESMTP\r\n"
    (home / "control/me").unlink()
    assert resident.connect().hear_the_end() == b"421 unable to read controls (#4.3.0)\r\n"
    assert b"control/smtpgreeting is missing" in resident.wait_for(b"refused")


def test_resident_obeys_rules_as_they_are_now(home: Path, start: Start) -> None:
    rules = home / "rules.cdb"
    rules.write_bytes(build_cdb([(b"127.0.0.", b"D\0")]))
    (home / "control/rcpthosts").write_text("mail.test\n")
    resident = start("--rules", str(rules))
    assert resident.connect().hear_the_end() == b""
    new = home / "new.cdb"
    for value, code in [(b"+RELAYCLIENT=\0", b"250 ok"), (b"", b"553 ")]:
        new.write_bytes(build_cdb([(b"127.0.0.1", value), (b"", b"D\0")]))
        new.rename(rules)
        talk = resident.connect()
        talk.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n")
        assert talk.hear_the_end().split(b"\r\n")[2].startswith(code)
    rules.write_bytes(b"damaged")
    assert resident.connect().hear_the_end() == b"421 unable to read controls (#4.3.0)\r\n"
    rules.unlink()
    assert resident.connect().hear_the_end() == b"421 unable to read controls (#4.3.0)\r\n"


def test_resident_limits_connections(start: Start) -> None:
    for option in ("--limit", "--limit-per-address"):
        resident = start(option, "2")
        first, second = resident.connect(), resident.connect()
        first.hear(), second.hear()
        third = resident.connect()
        assert third.hear_the_end() == b"421 too many connections, try again later (#4.3.2)\r\n"
        first.say(b"QUIT\r\n")
        first.hear_the_end()
        greeted = b""
        while not greeted.startswith(b"220"):  # it counts a connection until a moment after its end is seen
            greeted = resident.connect().hear()
        assert greeted == b"220 mail.test ESMTP\r\n"


def test_resident_ends_silent_clients(home: Path, start: Start) -> None:
    (home / "control/timeoutsmtpd").write_text("1\n")
    talk = start().connect()
    assert talk.hear_the_end() == b"220 mail.test ESMTP\r\n451 timeout (#4.4.2)\r\n"


def test_resident_cuts_off_who_never_reads(home: Path, start: Start) -> None:
    (home / "control/timeoutsmtpd").write_text("1\n")
    talk = start().connect()
    talk.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with pytest.raises((ConnectionError, TimeoutError)):
        for _ in range(200):
            talk.connection.sendall(b"HELP\r\n" * 20_000)


def test_resident_goes_down_when_told(start: Start, writer: FakeWriter) -> None:
    resident = start()
    idle, busy = resident.connect(), resident.connect()
    idle.hear(), busy.hear()
    busy.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
    busy.hear_lines(3)
    resident.process.send_signal(signal.SIGTERM)
    assert idle.hear_the_end() == b"421 shutting down, try again later (#4.3.2)\r\n"
    busy.say(b"hi\r\n.\r\n")
    lines = busy.hear_the_end().split(b"\r\n")
    assert is_heard(b"250 ok <time> qp 77", lines[0])
    assert lines[1:] == [b"421 shutting down, try again later (#4.3.2)", b""]
    assert resident.process.wait(DEADLINE_S) == 0
    with pytest.raises(ConnectionRefusedError):
        resident.connect()


def test_resident_serves_ipv6(start: Start, writer: FakeWriter) -> None:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on loopback")
    talk = start(host="::1").connect()
    talk.say(MESSAGE % b"hi")
    talk.hear_the_end()
    assert writer.packages[0].message is not None
    assert writer.packages[0].message.startswith(b"Received: from unknown (::1)\n  by ::1 with SMTP; ")


def test_resident_says_why_it_cannot_start(home: Path, free_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        for options, why in [
            (["--listen", f"127.0.0.1:{free_port}"], b"already in use"),
            (["--listen", "mail.test:25"], b""),
            (["--listen", "127.0.0.1:0", "--user", "nobody-has-this-name"], b"nobody-has-this-name"),
        ]:
            done = subprocess.run(
                [*SMTPD, *options], capture_output=True, timeout=DEADLINE_S, check=False,
                env={**os.environ, "QMAILHOME": str(home)},
            )  # fmt: skip
            assert done.returncode == 111
            assert done.stderr.startswith(b"qmail-smtpd: fatal: ")
            assert b"[Errno" not in done.stderr
            assert why in done.stderr.lower() or why in done.stderr
