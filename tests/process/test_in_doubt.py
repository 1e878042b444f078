"""The whole system, and a server or a delivery that goes exactly where nobody can know what it has done."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_home import DEADLINE_S, LOGIN, Home, System, until
from remote_peer import CLOSE, SILENCE, ScriptedPeer

TO_US = b"Fs@me.test\0T" + LOGIN.encode() + b"@me.test\0\0"
IN_DOUBT = r"warning: msg \d+: delivery \d+ is in doubt, it may have arrived; will try again\n"


@pytest.fixture
def home(short_path: Path) -> Home:
    return Home(short_path / "h")


@pytest.fixture
def log(short_path: Path) -> Path:
    path = short_path / "log"
    path.touch()
    return path


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with ScriptedPeer() as one:
        yield one


def route_to(home: Home, peer: ScriptedPeer) -> None:
    (home.path / "control" / "smtproutes").write_text(f"peer.test:[127.0.0.1]:{peer.port}\n")


def ledger(home: Home) -> str:
    """What `notqmail ledger` says; it must balance."""
    done = subprocess.run(
        [sys.executable, "-m", "notqmail.admin", "ledger", str(home.path)], capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def note(shown: str, text: str) -> int:
    """The number that stands before this text; 0 when it is not there."""
    found = re.search(rf"^ *(\d+)   {re.escape(text)}", shown, re.MULTILINE)
    return int(found[1]) if found else 0


def test_a_server_that_drops_after_the_final_dot_leaves_its_recipients_in_doubt_until_the_next_regular_try(
    home: Home, log: Path, peer: ScriptedPeer
) -> None:
    # Together; then each alone, for this host delivered to nobody; then, not remembered over the restart, together.
    peer.answers[b"."] = [CLOSE, CLOSE, CLOSE, b"250 ok\r\n"]
    route_to(home, peer)
    system = System(home, log)
    assert home.queue(b"Subject: x\n\nbody\n", b"Fs@me.test\0Ta@peer.test\0Tb@peer.test\0\0") == 0
    for _ in range(2):
        system.wait_for(IN_DOUBT)
    system.wait_for(r"delivery \d+: deferral: .*connection_died._Possible_duplicate!_\(#4.4.2\)/\n")
    # Another message comes and goes meanwhile: those in doubt are not tried with it, nor at once.
    assert home.queue(b"m\n", TO_US) == 0
    system.wait_for(r"end msg \d+\n")
    until(lambda: not home.queued())
    assert len(peer.bodies) == 1, "a doubt is no reason to be early"
    shown = ledger(home)
    assert note(shown, "attempts in doubt (nobody knows whether it arrived), for 2 recipients") == 2
    assert re.search(r"in doubt: msg \d+ \(qp \d+\) to a@peer.test: 1 attempt in doubt\n", shown)
    assert re.search(r"in doubt: msg \d+ \(qp \d+\) to b@peer.test: 1 attempt in doubt\n", shown)
    system.signal(signal.SIGALRM)
    for _ in range(2):
        system.wait_for(IN_DOUBT)
    assert system.end() == 0
    again = System(home, log)  # what is in doubt is remembered over a restart
    again.signal(signal.SIGALRM)
    again.wait_for(r"end msg \d+\n")
    assert again.end() == 0
    assert len(peer.bodies) == 4
    shown = ledger(home)
    assert note(shown, "attempts in doubt (nobody knows whether it arrived), for 2 recipients") == 4
    assert note(shown, "delivered after an attempt in doubt: perhaps twice") == 2
    assert "in doubt: msg" not in shown


def test_a_spawner_that_dies_while_it_waits_for_the_answer_to_the_dot_is_known_to_the_ledger(
    home: Home, log: Path, peer: ScriptedPeer
) -> None:
    peer.answers[b"."] = [SILENCE, b"250 ok\r\n"]
    route_to(home, peer)
    system = System(home, log)
    assert home.queue(b"Subject: x\n\nbody\n", b"Fs@me.test\0Ta@peer.test\0\0") == 0
    until(lambda: len(peer.bodies) == 1, system.log)
    os.kill(system.children()["qmail-rspawn"], signal.SIGKILL)
    system.wait_for(r"warning: msg \d+: 1 deliveries were under way when its spawner died; they may be repeated\n")
    system.process.wait(DEADLINE_S)
    until(system.is_gone, system.log)
    again = System(home, log)
    again.wait_for(r"end msg \d+\n")
    assert again.end() == 0
    assert len(peer.bodies) == 2
    shown = ledger(home)
    assert note(shown, "under way at a crash: perhaps delivered twice") == 1
    assert "delivered            1\n" in shown


def test_a_local_delivery_whose_process_dies_after_it_and_before_its_report_is_in_doubt(
    home: Home, log: Path, short_path: Path
) -> None:
    (home.path / "alias" / ".qmail-dies").write_text(
        f"|cat >>{short_path}/arrived; test -e {short_path}/died || {{ touch {short_path}/died; kill -9 $PPID; }}\n"
    )
    system = System(home, log)
    assert home.queue(b"m\n", b"Fs@me.test\0Tdies@me.test\0\0") == 0
    system.wait_for(IN_DOUBT)
    system.wait_for(r"delivery \d+: deferral: qmail-local_crashed./\n")
    system.signal(signal.SIGALRM)
    system.wait_for(r"delivery \d+: success:")
    assert system.end() == 0
    shown = ledger(home)
    assert note(shown, "attempt in doubt (nobody knows whether it arrived), for 1 recipient") == 1
    assert note(shown, "delivered after an attempt in doubt: perhaps twice") == 1
    assert (short_path / "arrived").read_bytes().count(b"\nm\n") == 2, "and twice it was"
