"""A C home with waiting mail is adopted, its mail is delivered by our programs, and it is handed back.

The queue is laid by hand as C's qmail-queue and qmail-send lay it. The whole way, with C delivering what ours leave,
was gone with qmail 1.03, netqmail 1.06 and notqmail 1.09; here every file that is left must have the form that C's
have (INTERNALS of qmail, section 2).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from classic_house import DEADLINE_S, HOST, System, made_system, until

from adopt_homes import NOTQMAIL, PLENTY, Tree, lay_bin, lay_home, lay_message, lay_start, put, tree

SPLIT = 23
REFUSING = ":[127.0.0.1]:1\n"  # nobody listens there: every delivery is put off at once
FORMS = {  # kind -> what the content of each file must match
    "mess": rb"(Received: \(qmail \d+ invoked [^\n]+\n).*",
    "todo": rb"u\d+\0p\d+\0F[^\0]*\0(T[^\0]+\0)+",
    "info": rb"F[^\0]*\0",
    "local": rb"([TD][^\0]+\0)+",
    "remote": rb"([TD][^\0]+\0)+",
    "bounce": rb"(<[^\n]+>:\n([^\n]+\n)+\n)+",
}


def without_queue(found: Tree) -> Tree:
    """The queue's mail moves on meanwhile."""
    return {path: entry for path, entry in found.items() if not path.startswith("queue/")}


def queue_files(queue: Path) -> dict[str, set[int]]:
    """kind -> the numbers of its files; each must be where C looks for it and have C's form."""
    found: dict[str, set[int]] = {}
    for kind, form in FORMS.items():
        for path in (queue / kind).rglob("*"):
            if path.is_file():
                number = int(path.name)
                parts = [str(number % SPLIT)] if kind in ("mess", "info", "local", "remote") else []
                assert path == (queue / kind).joinpath(*parts, path.name)
                assert re.fullmatch(form, path.read_bytes(), re.DOTALL), path
                if kind == "mess":
                    assert path.stat().st_ino == number
                found.setdefault(kind, set()).add(number)
    assert not list((queue / "pid").iterdir()), "no message half written"
    return found


# ── everything is the caller's ──────────────────────────────────────────────────────────────────────────────────────


class SingleUser:
    """A home of the caller's, started and stopped."""

    def __init__(self, base: Path) -> None:
        self.home, self.base = lay_home(base / "h", NOTQMAIL), base
        lay_start(base / "r", self.home, PLENTY)
        for part in ("tmp", "new", "cur"):
            (self.home / "alias" / "box" / part).mkdir(parents=True)
        put(self.home / "control" / "smtproutes", REFUSING)
        self._process: subprocess.Popen[bytes] | None = None

    def adopt(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "notqmail.admin", "adopt", str(self.home), "--root", str(self.base / "r")]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def start(self) -> None:
        with (self.base / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self.home / "bin" / "qmail-start", "./box/"], cwd="/", stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env={"PATH": f"{self.home}/bin:/usr/bin:/bin"}, start_new_session=True,
            )  # fmt: skip

    def log(self) -> str:
        return (self.base / "log").read_text("utf-8", "replace")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(DEADLINE_S) == 0, self.log()
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_S)


@pytest.fixture
def single(short_path: Path) -> Iterator[SingleUser]:
    made = SingleUser(short_path)
    yield made
    made.kill()


def test_a_queue_full_of_c_s_mail_is_taken_over_as_it_lies_and_handed_back(single: SingleUser) -> None:
    queue = single.home / "queue"
    accepted = lay_message(queue, "Subject: S4\n\n", sender="a@far.test", todo=["x@mail.test"], intd=True)
    half = lay_message(queue, "Subject: half\n\n", sender="a@far.test", todo=["x@mail.test"])
    put(queue / "info" / str(half % SPLIT) / str(half), b"Fa@far.test\0", 0o600)  # C was preprocessing it
    put(queue / "local" / str(half % SPLIT) / str(half), b"Tx@mail.t", 0o600)
    lay_message(queue, "Subject: S5\n\n", sender="a@far.test", local="Dgone@mail.test Tx@mail.test ")
    bouncing = lay_message(
        queue, "Subject: bouncing\n\n", sender="me@mail.test", remote="Dno@far.test ", bounce="<no@far.test>:\nNo.\n\n"
    )
    waiting = lay_message(
        queue, "Subject: later\n\n", sender="me@mail.test", remote="Dno@far.test Tslow@far.test ",
        bounce="<no@far.test>:\nNever.\n\n",
    )  # fmt: skip
    before = tree(single.home)

    done = single.adopt("--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    single.start()
    box = single.home / "alias" / "box" / "new"

    def subjects() -> list[str]:
        texts = [path.read_text() for path in box.iterdir()]
        return sorted(line for text in texts for line in re.findall(r"(?m)^Subject: (.*)$", text)[:1])

    until(lambda: subjects() == ["S4", "S5", "failure notice", "half"], single.log)
    until(lambda: "deferral" in single.log() and f"end msg {bouncing}\n" in single.log(), single.log)
    until(lambda: len(list(queue.glob("mess/*/*"))) == 1, single.log)  # mail arrives before it is taken off the queue
    (notice,) = [path.read_text() for path in box.iterdir() if "failure notice" in path.read_text()]
    assert "<no@far.test>:\nNo.\n" in notice
    assert single.adopt("--undo").returncode == 1, "it runs"
    single.stop()

    assert queue_files(queue) == {
        "mess": {waiting}, "info": {waiting}, "remote": {waiting}, "bounce": {waiting},
    }  # fmt: skip
    assert (queue / "remote" / str(waiting % SPLIT) / str(waiting)).read_bytes() == b"Dno@far.test\0Tslow@far.test\0"
    assert (queue / "bounce" / str(waiting)).read_text() == "<no@far.test>:\nNever.\n\n"
    assert accepted != waiting
    undone = single.adopt("--undo")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    shutil.rmtree(single.home / "alias" / "box")
    kept = without_queue({path: entry for path, entry in before.items() if not path.startswith("alias/box")})
    assert without_queue(tree(single.home)) == kept
    assert not (queue / "ledger").exists()


def test_mail_that_ours_took_in_lies_in_the_queue_as_c_s_does(single: SingleUser) -> None:
    assert single.adopt("--apply").returncode == 0
    single.start()
    until(lambda: "status: local" in single.log(), single.log)
    message = "From: me@mail.test\nTo: slow@far.test, nobody@mail.test\nSubject: both\n\nbody\n"
    put(single.home / "alias" / ".qmail-nobody", "|echo no such; exit 100\n")
    put(single.home / "alias" / ".qmail-later", "|exit 111\n")
    inject = [single.home / "bin" / "qmail-inject", "-fme@mail.test"]
    subprocess.run(inject, input=message.encode(), check=True, timeout=DEADLINE_S)
    single_message = "From: me@mail.test\nTo: later@mail.test\n\nbody\n"
    subprocess.run(inject, input=single_message.encode(), check=True, timeout=DEADLINE_S)
    until(lambda: single.log().count("deferral") == 2 and "failure" in single.log(), single.log)
    single.stop()
    files = queue_files(single.home / "queue")
    (both,) = files["bounce"]
    assert files["mess"] == files["info"] == files["local"] | files["remote"]
    assert (single.home / "queue" / "local" / str(both % SPLIT) / str(both)).exists() is False, "all done there"
    assert single.adopt("--undo").returncode == 0


# ── with qmail's accounts ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def classic() -> Iterator[System]:
    with made_system() as made:
        yield made


def as_c_leaves_it(system: System) -> None:
    """Turns a home of ours into one with C's programs, as its installer leaves it."""
    home = system.home
    shutil.rmtree(home / "queue" / "ledger")
    shutil.rmtree(home / "run")
    shutil.rmtree(home / "bin")
    lay_bin(home, NOTQMAIL)
    for path in (home / "bin").iterdir():
        mode = path.stat().st_mode & 0o7777
        os.chown(
            path, system.machine.uid["qmailq" if path.name == "qmail-queue" else "root"], system.machine.gid["qmail"]
        )
        path.chmod(mode)  # chown takes the setuid bit away
    lay_start(system.base / "r", home, PLENTY)
    put(home / "control" / "smtproutes", REFUSING)
    for name in ("postmaster", "mailer-daemon", "root"):
        put(home / "alias" / f".qmail-{name}", f"&bob@{HOST}\n")


@pytest.mark.root
def test_a_classic_home_is_adopted_runs_with_its_accounts_and_is_handed_back(classic: System) -> None:
    system, queue = classic, classic.home / "queue"
    as_c_leaves_it(system)
    before = tree(system.home)
    uids, gids = system.machine.uid, system.machine.gid
    owners = (uids["qmailq"], uids["qmails"], gids["qmail"])
    lay_message(queue, "Subject: S4\n\nin S4\n", sender=f"bob@{HOST}", todo=[f"alice@{HOST}"], intd=True, owners=owners)
    lay_message(queue, "Subject: S5\n\nin S5\n", sender=f"bob@{HOST}", local=f"Talice@{HOST} ", owners=owners)
    waiting = lay_message(
        queue, "Subject: x\n\nx\n", sender=f"bob@{HOST}", remote="Tslow@far.test ", bounce="<no@far.test>:\nNo.\n\n",
        owners=owners,
    )  # fmt: skip
    arguments = ("adopt", str(system.home), "--root", str(system.base / "r"))

    report = system.notqmail(*arguments, code=1)
    assert "what --apply would do" in report
    # The programs are dummies: what C has compiled in cannot be asked.
    assert "not known (1)\n  bin: conf-break: cannot be seen (qmail-getpw cannot be run" in report
    assert "is ours. Start it as you always do" in system.notqmail(*arguments, "--apply")
    kept = (system.home / "bin" / "qmail-queue.before-python").stat()
    assert (kept.st_mode & 0o7777, kept.st_uid) == (0o4711, uids["qmailq"])
    run = (system.home / "run").stat()
    assert (run.st_uid, run.st_gid, run.st_mode & 0o7777) == (uids["qmailq"], gids["qmail"], 0o755)
    system.start(own_writer=False)
    for needle in ("in S4", "in S5"):
        status = system.mail("alice", needle)[1]
        assert status.st_uid == uids["alice"]
    until(lambda: "deferral" in system.log(), system.log)
    until(lambda: len(list(queue.glob("mess/*/*"))) == 1, system.log)
    system.stop()
    assert "The ledger balances." in system.notqmail("ledger", str(system.home))

    assert queue_files(queue) == {kind: {waiting} for kind in ("mess", "info", "remote", "bounce")}
    assert "is C's again" in system.notqmail("adopt", str(system.home), "--undo")
    assert without_queue(tree(system.home)) == without_queue(before)
    structure = {path: entry for path, entry in before.items() if path.startswith("queue/")}
    assert structure.items() <= tree(system.home).items()
