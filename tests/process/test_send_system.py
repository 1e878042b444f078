"""qmail-send(8) with all its companions, started by qmail-start: signals, lost children, restarts."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_home import DEADLINE_S, LOGIN, Home, System, until

TO_US = b"Fs@me.test\0T" + LOGIN.encode() + b"@me.test\0\0"


@pytest.fixture
def home(short_path: Path) -> Home:
    return Home(short_path / "h")


@pytest.fixture
def log(short_path: Path) -> Path:
    path = short_path / "log"
    path.touch()
    return path


@pytest.fixture
def system(home: Home, log: Path) -> Iterator[System]:
    one = System(home, log)
    yield one
    one.end()


def slow_alias(home: Home, gate: Path) -> None:
    """Mail for slow@me.test begins by touching GATE.begun and ends when GATE is there."""
    (home.path / "alias" / ".qmail-slow").write_text(
        f"|echo x >>{gate}.begun; while test ! -e {gate}; do sleep 0.05; done\n"
    )


def test_mail_arrives_and_the_log_says_so(system: System) -> None:
    assert system.home.queue(b"Subject: hello\n\nb\n", TO_US) == 0
    system.wait_for(r"end msg \d+\n")
    (message,) = system.home.new_mail()
    assert b"Subject: hello\n\nb\n" in message
    assert message.startswith(b"Return-Path: <s@me.test>\nDelivered-To: " + LOGIN.encode() + b"@me.test\n")
    until(lambda: not system.home.queued())


def test_term_lets_deliveries_finish(home: Home, log: Path, short_path: Path) -> None:
    gate = short_path / "gate"
    slow_alias(home, gate)
    system = System(home, log)
    assert home.queue(b"m\n", b"Fs@me.test\0Tslow@me.test\0\0") == 0
    until(Path(f"{gate}.begun").exists, system.log)
    system.signal(signal.SIGTERM)
    assert home.queue(b"m\n", TO_US) == 0  # comes too late for this life
    gate.touch()
    assert system.end() == 0
    assert system.log().endswith("status: exiting\n")
    assert "delivery 1: success: did_0+0+1/" in system.log()
    assert home.new_mail() == [] and len(home.queued()) == 1
    again = System(home, log)
    until(home.new_mail, again.log)
    assert again.end() == 0
    assert Path(f"{gate}.begun").read_text() == "x\n", "it ran once"


def test_alrm_tries_again_now_and_a_restart_does_not(home: Home, log: Path, short_path: Path) -> None:
    (home.path / "alias" / ".qmail-later").write_text(f"|echo x >>{short_path}/tries; exit 111\n")
    system = System(home, log)
    assert home.queue(b"m\n", b"Fs@me.test\0Tlater@me.test\0\0") == 0
    system.wait_for("delivery 1: deferral:")
    system.signal(signal.SIGALRM)
    system.wait_for("delivery 2: deferral:")
    assert system.end() == 0
    again = System(home, log)
    assert home.queue(b"m\n", TO_US) == 0  # when this has come, the other one would have been tried as well
    again.wait_for("delivery 1: success:")
    assert (short_path / "tries").read_text() == "x\nx\n"
    assert again.end() == 0


def test_hup_rereads_locals(system: System) -> None:
    route = b"Fs@me.test\0T" + LOGIN.encode() + b"@new.test\0\0"
    (system.home.path / "control" / "smtproutes").write_text(":127.0.0.1:1\n")
    assert system.home.queue(b"m\n", route) == 0
    system.wait_for(r"to remote \S+@new.test")
    with (system.home.path / "control" / "locals").open("a") as file:
        file.write("new.test\n")
    system.signal(signal.SIGHUP)
    until(lambda: "to local" in queue_one(system, route) or "to local" in system.log(), system.log)
    system.wait_for(r"to local \S+@new.test")
    until(system.home.new_mail, system.log)


def queue_one(system: System, envelope: bytes) -> str:
    """A signal may take a moment: each message is routed by what is known when it comes."""
    before = system.log().count("starting delivery")
    assert system.home.queue(b"m\n", envelope) == 0
    until(lambda: system.log().count("starting delivery") > before, system.log)
    return system.log()


def test_a_second_qmail_send_refuses(system: System) -> None:
    second = subprocess.run(
        [system.home.program("qmail-start"), "./Maildir/"], env=system.home.environ, capture_output=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert second.returncode == 111
    assert second.stdout == b"alert: cannot start: qmail-send is already running\n"
    assert system.home.queue(b"m\n", TO_US) == 0
    until(system.home.new_mail, system.log)


@pytest.mark.parametrize("victim", ["qmail-lspawn", "qmail-rspawn", "qmail-clean", "qmail-queue"])
def test_a_lost_child_ends_the_whole_and_a_restart_goes_on(home: Home, log: Path, victim: str) -> None:
    system = System(home, log)
    children = system.children()
    assert {"qmail-lspawn", "qmail-rspawn", "qmail-clean"} <= set(children), children
    os.kill(children[victim], signal.SIGKILL)
    if victim == "qmail-queue":
        what = "qmail-queue --serve!"
    elif victim == "qmail-clean":
        assert home.queue(b"m\n", TO_US) == 0  # it is missed only when it is needed
        what = "qmail-clean connection!"
    else:
        what = "spawn connection!"
    assert system.process.wait(DEADLINE_S) == 0
    assert f"alert: oh no! lost {what} dying...\n" in system.log()
    assert system.log().endswith("status: exiting\n")
    until(system.is_gone)
    assert home.queue(b"m\n", TO_US) == 0
    again = System(home, log)
    until(lambda: len(home.new_mail()) >= 1, again.log)
    assert again.end() == 0


def test_kill_of_qmail_send_loses_nothing(home: Home, log: Path, short_path: Path) -> None:
    gate = short_path / "gate"
    slow_alias(home, gate)
    system = System(home, log)
    assert home.queue(b"m\n", b"Fs@me.test\0Tslow@me.test\0T" + LOGIN.encode() + b"@me.test\0\0") == 0
    until(Path(f"{gate}.begun").exists, system.log)
    until(home.new_mail, system.log)
    system.process.kill()
    system.process.wait(DEADLINE_S)
    gate.touch()
    until(system.is_gone)
    again = System(home, log)
    again.wait_for(r"end msg \d+\n")
    assert again.end() == 0
    assert Path(f"{gate}.begun").read_text() == "x\nx\n", "it was under way and is done once more"


def test_a_bounce_comes_back(system: System) -> None:
    envelope = b"F" + LOGIN.encode() + b"@me.test\0Tnobody-here@me.test\0\0"
    assert system.home.queue(b"Subject: lost\n\nb\n", envelope) == 0
    until(system.home.new_mail, system.log)
    (bounce,) = system.home.new_mail()
    assert bounce.startswith(b"Return-Path: <>\n")
    assert b"<nobody-here@me.test>:\nSorry, no mailbox here by that name. (#5.1.1)\n" in bounce
    system.wait_for(r"bounce msg \d+ qp \d+\nend msg")


@pytest.mark.parametrize("arguments", [["--help"]])
@pytest.mark.parametrize("program", ["qmail-send", "qmail-start", "qmail-clean"])
def test_help(home: Home, program: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [home.program(program), *arguments], env=home.environ, capture_output=True, timeout=DEADLINE_S, check=True
    )
    assert done.stdout.startswith(b"usage: " + program.encode())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda home: (home / "queue" / "lock" / "sendmutex").unlink(), "unable to open mutex"),
        (lambda home: [(home / "control" / name).unlink() for name in ("me", "locals")], "unable to read controls"),
        (lambda home: (home / "queue").rename(home / "elsewhere"), "unable to switch to queue directory"),
        (lambda home: None, "hath the daemon spawn no fire?"),
    ],
)  # fmt: skip
def test_what_is_missing_at_the_start_is_said(home: Home, spoil, reason: str) -> None:
    spoil(home.path)
    with open(os.devnull, "rb") as nothing:
        log_in, log_out = os.pipe()
        pid = os.posix_spawn(
            home.program("qmail-send"), ["qmail-send"], home.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, log_out, 100), (os.POSIX_SPAWN_DUP2, nothing.fileno(), 101),
                (os.POSIX_SPAWN_DUP2, 100, 0),
                *[(os.POSIX_SPAWN_DUP2, 101, number) for number in (1, 2, 3, 4, 5, 6)],
            ],
        )  # fmt: skip
    os.close(log_out)
    with open(log_in, "rb") as said:
        line = said.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 111
    assert line.startswith(f"alert: cannot start: {reason}"), line
