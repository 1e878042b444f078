"""The shipped run scripts under Debian's daemontools, runit and s6: mail flows, what is killed comes back, all stops.

The scripts are used as they lie in packaging/run, in a home at /var/qmail with qmail's accounts. systemd cannot be
process 1 where tests run: its units are verified and their confinement tried in tests/process/test_systemd_units.py.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from supervised_house import (
    ALICE,
    DEADLINE_S,
    FETCH,
    PACKAGE,
    PASSWORD,
    PYTHON,
    RUN_SCRIPTS,
    SEND,
    SERVICES,
    SUPERVISORS,
    Supervised,
    Supervisor,
    supervised,
    until,
)

pytestmark = [pytest.mark.root, pytest.mark.debian("tcpserver")]


def subjects(system: Supervised, user: str = "alice") -> set[str]:
    """Of the mail in somebody's Maildir, read or not."""
    maildir = system.person(user) / "Maildir"
    texts = [path.read_text() for part in ("new", "cur") for path in (maildir / part).iterdir()]
    return {line for text in texts for line in text.splitlines() if line.startswith("Subject: ")}


@pytest.mark.parametrize("supervisor", SUPERVISORS, ids=lambda one: one.name)
def test_the_run_scripts_carry_the_system(supervisor: Supervisor) -> None:
    with supervised(supervisor) as system:
        system.start()
        mail_in_by_every_door(system)
        mail_is_fetched(system)
        what_is_killed_comes_back_and_no_mail_is_lost(system)
        everything_stops(system)


def mail_in_by_every_door(system: Supervised) -> None:
    assert system.python(SEND, [["s@x.test", ALICE, "Subject: SMTP\n"]]) == "Subject: SMTP\n\n"
    assert ":Kok " in system.python(PACKAGE, ["s@x.test", ALICE, "Subject: QMTP\n\n"])
    bin_ = "/var/qmail/bin"
    inject = [f"{bin_}/qmail-inject", "-fs@x.test", ALICE]
    done = system.run(inject, "bob", b"Subject: QMQP\n\n", QMAILQUEUE=f"{bin_}/qmail-qmqpc")
    assert (done.returncode, done.stderr) == (0, b"")
    until(lambda: subjects(system) == {"Subject: SMTP", "Subject: QMTP", "Subject: QMQP"}, system.log)


def mail_is_fetched(system: Supervised) -> None:
    """POP3 leaves out what is as young as this second, so it may take a second look."""
    until(lambda: system.python(FETCH, PASSWORD) == "3\n", system.log)


def what_is_killed_comes_back_and_no_mail_is_lost(system: Supervised) -> None:
    """Two sessions of forty messages; qmail-send and qmail-smtpd die by force in the first one."""
    killed = [*system.running("qmail-send"), *system.running("qmail-smtpd")]
    assert len(killed) == 2
    texts = [f"Subject: flow {number}\n" for number in range(40)]
    letters = [["s@x.test", ALICE, text] for text in texts]
    client = subprocess.Popen(
        system.machine.argv([system.python_path, "-c", PYTHON + SEND]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdin is not None
    client.stdin.write(json.dumps(letters))
    client.stdin.close()
    until(lambda: len(subjects(system)) > 3 + 3, system.log)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert client.stdout is not None
    accepted = {line for line in client.stdout.read().splitlines() if line}
    client.stdout.close()
    client.wait(DEADLINE_S)
    until(lambda: not set(killed) & {*system.running("qmail-send"), *system.running("qmail-smtpd")}, system.log)
    system.wait_up()
    rest = [letter for letter in letters if letter[2].strip() not in accepted]
    rest.append(["s@x.test", ALICE, "Subject: after\n"])
    system.python(SEND, rest)
    until(lambda: subjects(system) >= {text.strip() for text in texts} | {"Subject: after"}, system.log)


def still_waiting(system: Supervised) -> list[Path]:
    """What is in the queue for somebody."""
    kinds = ("todo", "intd", "info/*", "local/*", "remote/*", "bounce")
    return [path for kind in kinds for path in (system.home / "queue").glob(f"{kind}/*")]


def everything_stops(system: Supervised) -> None:
    until(lambda: not still_waiting(system), system.log)
    system.bring_down()
    until(lambda: system.service_log("qmail-send").endswith("status: exiting\n"), system.log)
    system.end()
    assert system.processes() == {}
    assert not still_waiting(system)
    left = list((system.home / "queue" / "mess").glob("*/*"))
    assert len(left) <= 128, "of finished messages that were to be removed together when qmail-send was killed"
    assert system.notqmail("ledger", str(system.home)).endswith("The ledger balances.\n")
    owners = {path.stat().st_uid for path in (system.var / "log" / "qmail").glob("*/current")}
    assert owners == {system.machine.uid["qmaill"]}


def test_the_loggers_are_one_script() -> None:
    texts = {(RUN_SCRIPTS / name / "log" / "run").read_text() for name in SERVICES}
    assert len(texts) == 1


def test_each_service_of_a_supervisor_has_its_unit() -> None:
    units = {path.stem for path in (RUN_SCRIPTS.parent / "systemd").glob("*.service")}
    assert units == set(SERVICES)


def test_what_runs_is_executable() -> None:
    scripts = [*RUN_SCRIPTS.glob("*/run"), *RUN_SCRIPTS.glob("*/log/run")]
    assert len(scripts) == 2 * len(SERVICES)
    assert [path for path in scripts if not os.access(Path(path), os.X_OK)] == []
