"""`notqmail run`: comes up, proves itself, survives the death of its programs, and leaves nothing behind."""

import getpass
import os
import re
import select
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE_S = 60.0


class Running:
    """A `notqmail run` and what it printed so far."""

    def __init__(self, home: Path, port: int, *options: str) -> None:
        self.home, self.port, self.printed = home, port, ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "notqmail.admin", "run", "--home", home, "--smtp", f"127.0.0.1:{port}", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._shown = 0

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Reads until a line after the last match has `pattern`."""
        assert self.process.stdout is not None
        end_s = time.monotonic() + DEADLINE_S
        while True:
            found = re.search(pattern, self.printed[self._shown :])
            if found:
                self._shown += found.end()
                return found
            ready = select.select([self.process.stdout], [], [], max(0, end_s - time.monotonic()))[0]
            data = os.read(self.process.stdout.fileno(), 65_536) if ready else b""
            assert data, f"no {pattern!r} in:\n{self.printed}"
            self.printed += data.decode()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Sends a signal and waits for the end; returns the exit code."""
        self.process.send_signal(number)
        output = self.process.communicate(timeout=DEADLINE_S)[0]
        self.printed += output.decode()
        return self.process.returncode


def processes_of(home: Path) -> dict[int, str]:
    """The processes that live in this home: those whose environment names it. Zombies have none: they are listed too
    when their parent is one of ours, which pytest's own children never are."""
    mark = b"QMAILHOME=" + bytes(home) + b"\0"
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if mark in Path(entry.path, "environ").read_bytes():
                    found[int(entry.name)] = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has just left, or is not ours to look at
    return found


def pid_of(home: Path, program: str) -> int:
    # Its warm workers have the same command line, and began later; numbers may have begun anew in between.
    return min((pid for pid, command in processes_of(home).items() if f"/bin/{program} " in command), key=began)


def began(pid: int) -> tuple[int, int]:
    """When it was started; as it has ended, never."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return sys.maxsize, pid
    return ticks, pid


def children_of(pid: int) -> set[int]:
    """Its children, those that have ended and wait for their burial too."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def kill_if_there(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended while we looked


def waiting(home: Path) -> list[Path]:
    """The files of messages in the queue."""
    return [path for part in ("mess", "info", "todo") for path in (home / "queue" / part).rglob("*") if path.is_file()]


def until(reached: Callable[[], bool], what: object = "") -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end_s, f"not in time: {what() if callable(what) else what}"
        select.select([], [], [], 0.02)  # a process gives no event to wait for


@pytest.fixture
def start(short_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a `notqmail run`; whatever a test leaves behind is killed, and makes the test fail."""
    started: list[Running] = []

    def run(port: int, *options: str, home: Path | None = None) -> Running:
        started.append(Running(home or short_path / "home", port, *options))
        return started[-1]

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate(timeout=DEADLINE_S)
        try:
            until(lambda r=running: not processes_of(r.home))  # type: ignore[misc]
        finally:
            for pid in processes_of(running.home):
                kill_if_there(pid)


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM])
def test_it_delivers_its_first_message_and_stops_without_a_trace(
    start: Callable[..., Running], free_port: int, stop_signal: int
) -> None:
    running = start(free_port)
    name = running.wait_for(r"it arrived: (\S+)\n")[1]
    header = running.wait_for(r"(?s)    Return-Path: .*?running; Ctrl-C stops it")[0]
    assert "Subject: your mail system works" in header
    assert Path(name).is_file()
    assert processes_of(running.home)
    until(lambda: not waiting(running.home), lambda: running.printed)  # it arrives before it is taken off the queue
    assert running.stop(stop_signal) == 0
    assert "nothing is lost; 0 messages wait" in running.printed
    assert processes_of(running.home) == {}


def test_a_second_run_goes_on_with_the_same_home(start: Callable[..., Running], free_port: int) -> None:
    for expected in (1, 2):
        running = start(free_port)
        running.wait_for("running; Ctrl-C stops it")
        assert running.stop() == 0
        assert len(list((running.home / "Maildir" / "new").iterdir())) == expected


def test_a_home_runs_only_once(start: Callable[..., Running], free_port: int) -> None:
    first = start(free_port, "--no-first-message")
    first.wait_for("running; Ctrl-C stops it")
    second = start(free_port)
    second.wait_for(rf"is running already \(process {first.process.pid}\)")
    assert second.process.wait(DEADLINE_S) == 1
    assert first.stop() == 0


def test_a_port_that_is_taken_is_said_with_what_to_do(start: Callable[..., Running], free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        running = start(free_port)
        running.wait_for(f"cannot listen on 127.0.0.1:{free_port}.*make run SMTP=127.0.0.1:{free_port + 1}")
        assert running.process.wait(DEADLINE_S) == 1
    assert not running.home.exists(), "a home nobody has used yet"


def test_killed_itself_it_leaves_no_process(start: Callable[..., Running], free_port: int) -> None:
    running = start(free_port, "--no-first-message")
    running.wait_for("running; Ctrl-C stops it")
    running.process.kill()
    until(lambda: not processes_of(running.home), lambda: processes_of(running.home))


@pytest.mark.parametrize("program", ["qmail-smtpd", "qmail-queue", "qmail-send", "qmail-lspawn"])
def test_a_program_that_dies_is_started_again_and_mail_flows(
    start: Callable[..., Running], free_port: int, program: str
) -> None:
    running = start(free_port)
    running.wait_for("running; Ctrl-C stops it")
    os.kill(pid_of(running.home, program), signal.SIGKILL)
    service = "qmail-send" if program == "qmail-lspawn" else program
    running.wait_for(f"{service} (was killed by signal 9|ended with code 0): starting it again")
    until(lambda: sends(free_port))
    until(lambda: len(list((running.home / "Maildir" / "new").iterdir())) >= 2, lambda: running.printed)
    assert running.stop() == 0


def sends(port: int) -> bool:
    """Whether a message was accepted; the system may be on its way up."""
    import getpass

    to = f"{getpass.getuser()}@localhost"
    try:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=DEADLINE_S) as connection:
            connection.sendmail(to, [to], "Subject: after\r\n\r\nx\r\n")
    except (OSError, smtplib.SMTPException):
        return False
    return True


def test_hup_is_passed_on_so_that_locals_are_read_again(start: Callable[..., Running], free_port: int) -> None:
    running = start(free_port, "--no-first-message")
    running.wait_for("running; Ctrl-C stops it")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("passing SIGHUP on to qmail-send")
    assert running.stop() == 0


# From here on with programs that misbehave on purpose: `notqmail init` leaves them alone, for they are not ours.

QUEUE = """#!{python}
import os, signal, socket
path = os.environ["QMAILHOME"] + "/run/qmail-queue"
if os.path.exists(path): os.unlink(path)
s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()
signal.pause()
"""
WAITS = "#!{python}\nimport signal\nprint('up', flush=True)\nsignal.pause()\n"
SMTPD = "#!{python}\nimport signal\nprint('qmail-smtpd: listening on ' + 'it', flush=True)\nsignal.pause()\n"
STUBBORN = """#!{python}
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('deaf now', flush=True)
while True: signal.pause()
"""
ENDS = "#!/bin/sh\nprintf 'odd \\033[2J \\377 line'\nexit 7\n"


@pytest.fixture
def strange_home(short_path: Path) -> Callable[..., Path]:
    """A home whose programs are the given scripts."""

    def build(**programs: str) -> Path:
        home = short_path / "home"
        (home / "bin").mkdir(parents=True)
        all_programs = {"qmail_queue": QUEUE, "qmail_start": WAITS, "qmail_smtpd": SMTPD, **programs}
        for name, text in all_programs.items():
            path = home / "bin" / name.replace("_", "-")
            path.write_text(text.replace("{python}", sys.executable))
            path.chmod(0o755)
        return home

    return build


def test_a_program_that_keeps_ending_ends_the_run(
    start: Callable[..., Running], strange_home: Callable[..., Path], free_port: int
) -> None:
    running = start(free_port, "--no-first-message", home=strange_home(qmail_start=ENDS))
    running.wait_for("qmail-send ended with code 7: starting it again")
    running.wait_for("qmail-send ended with code 7 once more: giving up")
    running.wait_for("nothing is lost")
    assert running.process.wait(DEADLINE_S) == 1
    assert "odd \\x1b[2J \\xff line" in running.printed  # a terminal must not obey a log


def test_a_program_that_does_not_stop_is_killed_when_hurried(
    start: Callable[..., Running], strange_home: Callable[..., Path], free_port: int
) -> None:
    running = start(free_port, "--no-first-message", home=strange_home(qmail_start=STUBBORN))
    running.wait_for("(?s)deaf now.*running; Ctrl-C|running; Ctrl-C.*deaf now")
    smtpd = pid_of(running.home, "qmail-smtpd")
    running.process.send_signal(signal.SIGINT)
    running.wait_for("stopping")
    until(lambda: smtpd not in children_of(running.process.pid))  # ended and buried
    assert running.stop() == 0
    assert "qmail-send had to be killed" in running.printed
    assert "qmail-smtpd had to be killed" not in running.printed


def test_what_waits_in_the_queue_is_counted_once_each(
    start: Callable[..., Running], strange_home: Callable[..., Path], notqmail: Callable[..., object], free_port: int
) -> None:  # fmt: skip
    home = strange_home()
    notqmail("init", home)
    for name in ("todo/5", "info/5/5", "info/0/23", "todo/not-a-number"):
        (home / "queue" / name).write_text("")
    running = start(free_port, "--no-first-message", home=home)
    running.wait_for("running; Ctrl-C stops it")
    assert running.stop() == 0
    assert "2 messages wait in the queue" in running.printed


def test_a_smtpd_that_does_not_come_up_ends_the_run(
    start: Callable[..., Running], strange_home: Callable[..., Path], free_port: int
) -> None:
    running = start(free_port, "--no-first-message", home=strange_home(qmail_smtpd=ENDS))
    running.wait_for("qmail-smtpd did not start; its lines above say why")
    assert running.process.wait(DEADLINE_S) == 1


@pytest.mark.parametrize(
    "address", ["2525", "localhost:2525", ":2525", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:25", "127.0.0.1:65536"]
)
def test_addresses_that_will_not_do_are_refused(
    notqmail: Callable[..., "subprocess.CompletedProcess[str]"], short_path: Path, address: str
) -> None:
    done = notqmail("run", "--home", short_path / "h", "--smtp", address)
    assert done.returncode == 1
    assert done.stderr.startswith("notqmail: ")
    assert not (short_path / "h").exists()


def test_an_alarm_while_qmail_send_starts_does_not_end_it(start: Callable[..., Running], free_port: int) -> None:
    """HUP and ALRM mean something to it only once it runs; before, they would kill it."""
    running = start(free_port)
    running.wait_for("running; Ctrl-C stops it")
    os.kill(pid_of(running.home, "qmail-send"), signal.SIGKILL)
    running.wait_for("qmail-send was killed by signal 9: starting it again")
    until(lambda: any("/bin/qmail-send" in command for command in processes_of(running.home).values()))
    for number in (signal.SIGALRM, signal.SIGHUP):
        os.kill(pid_of(running.home, "qmail-send"), number)
    running.wait_for("status: local 0")
    assert "killed by signal 1" not in running.printed
    assert running.stop() == 0


def test_the_queue_writer_and_qmail_send_may_die_together(start: Callable[..., Running], free_port: int) -> None:
    """qmail-start, finding no writer, starts one of its own; that must not count as the household's failing."""
    running = start(free_port)
    running.wait_for("running; Ctrl-C stops it")
    os.kill(pid_of(running.home, "qmail-send"), signal.SIGKILL)

    def qmail_start_has_a_writer_of_its_own() -> bool:
        writers = [item for item in processes_of(running.home).items() if "/bin/qmail-queue --serve" in item[1]]
        for pid, command in writers:
            if "--lifeline" not in command:
                kill_if_there(pid)
        return any("--lifeline" in command for _, command in writers)

    until(qmail_start_has_a_writer_of_its_own)
    running.wait_for("another qmail-queue --serve already runs for this home: waiting for its end")
    with smtplib.SMTP("127.0.0.1", free_port, timeout=DEADLINE_S) as client:
        client.sendmail("", [f"{getpass.getuser()}@localhost"], "Subject: after\n\n.\n")
    new = running.home / "Maildir/new"
    until(lambda: any(b"Subject: after" in path.read_bytes() for path in new.iterdir()))
    assert "qmail-queue ended" not in running.printed, running.printed
    assert running.stop() == 0
    assert "qmail-queue ended" not in running.printed, running.printed
