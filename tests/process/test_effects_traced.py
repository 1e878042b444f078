"""The model against the machine: the same mail through real programs under strace, and through the crash tests' queue.

The effects on the disk must be the same in both, in the same order: names made, linked, renamed and removed,
files written, what is synced. So what the power-cut tests prove of their recorded steps is proved of the steps that
programs really take. One thing only is left to the day: whether a report comes within the moment for which
qmail-send waits before it ends messages; each way is allowed, at each such moment.

A sync of several paths is one syncfs where a resident does it, else an fsync of each of them in order. A barrier is
that too, or on a file system that keeps order each file is written out.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ordered_disk import ordered_disk
from queue_home import Home, System, until
from strace_effects import CALLS, Effect, Modelled, Names, Trace, recorded_effects

sys.path.append(str(Path(__file__).parents[1] / "crash"))
from breakage import Recorder
from houses import Houses
from machine import CLEAN, QUEUE, SEND, WORKER, Machine, acting
from queue_states import FixedClock
from test_life_power_cuts import with_ledger

from notqmail.receive.enqueue import Enqueuer, Request

pytestmark = pytest.mark.debian("strace")

MAIL = [  # recipients of one message after another; `no` is nobody, whose failure comes back to s
    ["dir"],
    ["box"],
    ["dir", "box"],
    ["box", "no"],
]
TEXT = b"Subject: x\n\nFrom here\n\nto there\n"
ONE_SHOT = "qmail-queue"
TRIGGER_FD = 103


# ── the model's run ─────────────────────────────────────────────────────────────────────────────────────────────────


class HeardTrigger:
    """lock/trigger without a FIFO."""

    descriptor = TRIGGER_FD

    def rearm(self) -> None:
        """It is always open."""


class WaitingMachine(Machine):
    """qmail-send that waits as the real one does. `late` says, for each moment at which ended messages wait for more
    of them, whether what was to come came too late.
    """

    def __init__(self, disk: Recorder, late: Iterator[bool]) -> None:
        self._late, self.moments = late, 0
        super().__init__(disk, Houses({}), concurrency=1)
        self.loop._trigger = HeardTrigger()  # type: ignore[assignment]

    def _wait(self, readable: list[int], writable: list[int], timeout_s: float) -> set[int]:
        ready = {channel.reports_fd for channel in self.channels if channel.has_reports}
        if self.submitted and TRIGGER_FD in readable:
            ready.add(TRIGGER_FD)
        if ready and timeout_s and (self.sender.ended or self.sender.ended_in_todo):
            self.moments += 1
            if next(self._late):
                return set()
        if TRIGGER_FD in ready:
            self.submitted = False
        if not ready and timeout_s:
            self.clock.now += 1
        return ready

    def run_until_idle(self) -> None:
        for _ in range(100):
            self.loop.turn()
            if not any(path.startswith((b"mess/", b"todo/")) for path in self.disk.everything()):
                return
        raise AssertionError(f"the queue does not get empty: {self.disk.everything()}")


def modelled(late: tuple[bool, ...]) -> tuple[list[Modelled], int]:
    """The recorded steps, and at how many moments something could have been late."""
    disk = Recorder()
    with_ledger(disk)
    disk.steps.clear()
    disk.role = SEND
    machine = WaitingMachine(disk, itertools.chain(late, itertools.repeat(False)))
    machine.loop.turn()
    for index, locals_ in enumerate(MAIL):
        recipients = [b"%b@me.test" % name.encode() for name in locals_]
        one = Request([TEXT], [b"s@me.test", *recipients], uid=7, pid=100 + index, invoked=b"by uid 7")
        with acting(disk, ONE_SHOT):
            Enqueuer(disk, FixedClock(disk.now_s), 10 + index).enqueue([one])
        machine.submitted = True
        machine.run_until_idle()
    machine.flags.exit = True
    machine.loop.run()
    return list(recorded_effects(disk.steps, Names(MODEL_PLACES))), machine.moments


# ── the real run ────────────────────────────────────────────────────────────────────────────────────────────────────


def real_places(home: Path) -> dict[str, str | None]:
    """What lies where. Anything else below the home is shown as it is, and then it is in no model."""
    return {
        f"{home}/alias/(?=(dir|s)/)": "",
        f"{home}/alias/(?=box$)": "",
        f"{home}/alias$": "houses",
        f"{home}/run/": None,  # a socket, and the lock of who listens on it
        f"{home}/queue/lock/(tcpto|trigger)$": None,  # hosts that are down, forgotten at the start; a FIFO
        f"{home}/queue/?": "",
        f"{home}/": "unexpected: ",
    }


MODEL_PLACES: dict[str, str | None] = {"home/": "", "home$": "houses", "": ""}


class TracedHome(Home):
    """Its programs run under strace, each with a file of its own."""

    def __init__(self, path: Path, traces: Path) -> None:
        super().__init__(path)
        self._traces, self._count = traces, 0

    def program(self, name: str) -> str:
        self._count += 1
        script = self._traces / f"run.{self._count}"
        script.write_text(
            f"#!/bin/sh\nexec strace -D -f -ttt -y -s 200 -e trace={CALLS} -o {self._traces}/t.{self._count} "
            f'{super().program(name)} "$@"\n'
        )
        script.chmod(0o755)
        return str(script)

    def traces(self) -> list[Path]:
        return sorted(self._traces.glob("t.*"))


def traced(home: TracedHome, log: Path) -> list[Effect]:
    """All the mail, one after the other; the system is stopped when it is at rest."""
    for name in ("dir", "box", "s"):
        is_maildir = name != "box"
        (home.path / "alias" / f".qmail-{name}").write_text(f"./{name}/\n" if is_maildir else f"./{name}\n")
        for part in ("tmp", "new", "cur") if is_maildir else ():
            (home.path / "alias" / name / part).mkdir(parents=True)
    (home.path / "control" / "concurrencylocal").write_text("1\n")
    there = {str(path) for path in home.path.rglob("*")}
    system = System(home, log)
    try:
        for locals_ in MAIL:
            envelope = b"Fs@me.test\0" + b"".join(b"T%b@me.test\0" % name.encode() for name in locals_) + b"\0"
            assert home.queue(TEXT, envelope) == 0
            until(lambda: not list((home.path / "queue" / "mess").glob("*/*")), system.log)
    finally:
        assert system.end() == 0
    trace = Trace(home.path, Names(real_places(home.path)), {"qmail-lspawn ./Maildir/": WORKER}, there)
    trace.read(home.traces())
    return trace.effects


# ── side by side ────────────────────────────────────────────────────────────────────────────────────────────────────


def difference(real: list[Effect], model: list[Modelled]) -> str:
    """What the first difference is; empty when there is none."""
    theirs = iter(real)
    for program, what, paths in model:
        found = next(theirs, None)
        if isinstance(paths, str):
            wanted = [(program, what, paths)]
        elif what == "barrier" and found is not None and found[1] == "written out":
            wanted = [(program, "written out", path) for path in paths if not path.endswith("/")]
        else:
            wanted = [(program, "fsync", path.rstrip("/")) for path in paths]
        if found is not None and found[:2] == (program, "syncfs") and len(wanted) > 1:
            continue
        while wanted and found == wanted[0]:
            wanted.pop(0)
            found = next(theirs, None) if wanted else found
        if wanted:
            return f"the model has {wanted}, the machine {found}"
    more = next(theirs, None)
    return f"the model has nothing more, the machine {more}" if more is not None else ""


def all_differences(real: list[Effect], late: tuple[bool, ...]) -> str:
    """All together when every report is in time; else deliveries go on beside what qmail-send does meanwhile."""
    model, _ = modelled(late)
    if not any(late):
        return difference(real, model)
    return difference([step for step in real if step[0] == WORKER], [step for step in model if step[0] == WORKER]) or (
        difference([step for step in real if step[0] != WORKER], [step for step in model if step[0] != WORKER])
    )


@pytest.fixture(params=["the disk of the tests", "ext4 in order"])
def place(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Path]:
    """Where the system lies."""
    if request.param != "ext4 in order":
        yield short_path
        return
    with ordered_disk(short_path) as mounted:
        mounted.chmod(0o755)
        yield mounted


def test_programs_do_to_the_disk_what_the_recorded_queue_does(place: Path, short_path: Path) -> None:
    traces = short_path / "traces"
    traces.mkdir()
    real = traced(TracedHome(place / "h", traces), short_path / "log")
    model, moments = modelled(())
    programs = {SEND, CLEAN, QUEUE, ONE_SHOT, WORKER}
    assert {effect[0] for effect in model} == {effect[0] for effect in real} == programs
    assert {effect[1] for effect in real} >= {"create", "write", "link", "unlink", "times", "fsync"}
    if place != short_path:
        assert ("qmail-queue --serve", "written out") in {effect[:2] for effect in real}
        assert (WORKER, "written out") in {effect[:2] for effect in real}
    differences = []
    for late in itertools.product((False, True), repeat=moments):
        differences.append(all_differences(real, late))
        if not differences[-1]:
            return
    raise AssertionError("\n".join(dict.fromkeys(differences)))


# ── the comparison itself ───────────────────────────────────────────────────────────────────────────────────────────

TRACE = """\
7 1.0 execve("/h/bin/qmail-send", ["/h/bin/qmail-send"], 0x7 /* 3 vars */) = 0
7 1.1 chdir("/h/queue") = 0
7 1.2 openat(AT_FDCWD</h/queue>, "pid/a b\\"", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</h/queue/pid/a>
7 1.3 write(3</h/queue/pid/a>, "x = 1", 5 <unfinished ...>
8 1.4 unlink("todo/12") = 0
7 1.5 <... write resumed>)        = 5
7 1.6 write(3</h/queue/pid/a>, "y", 1) = 1
7 1.7 clone(child_stack=NULL, flags=SIGCHLD, child_tidptr=0x7) = 8
7 1.8 link("pid/a", "mess/12/12") = 0
7 1.9 link("pid/a", "mess/12/12") = -1 EEXIST (File exists)
8 2.0 renameat2(AT_FDCWD</h/queue>, "info/12/12", AT_FDCWD</h/queue>, "../box", 0) = 0
8 2.1 fsync(4</h/queue/mess/12>) = 0
7 2.2 openat(AT_FDCWD</h/queue>, "pid/a", O_WRONLY|O_APPEND|O_CREAT) = 3</h/queue/pid/a>
7 2.3 write(3</h/queue/pid/a>, "z", 1) = 1
7 2.4 unlinkat(5</h/queue/mess/12>, "12", 0) = 0
7 2.5 link("pid/a", "mess/12/12") = 0
7 2.6 openat(AT_FDCWD</h/queue>, "/h/new", O_RDWR|O_CREAT|O_TRUNC, 0600) = 3</h/new>
7 2.7 write(1</elsewhere>, "z", 1) = 1
7 2.8 +++ exited with 0 +++
"""


def test_a_trace_is_read_as_the_steps_of_programs(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(TRACE)
    names = Names({"/h/queue/?": "", "/h/": "unexpected: "})
    trace = Trace(Path("/h"), names, {"qmail-send": "worker"}, set())
    trace.read([tmp_path / "t"])
    assert trace.effects == [
        ("qmail-send", "create", "pid/x1"),
        ("worker", "unlink", "todo/N1"),  # the child was faster than its parent's report of it
        ("qmail-send", "write", "pid/x1"),
        ("qmail-send", "link", "pid/x1 mess/*/N1"),
        ("worker", "rename", "info/*/N1 unexpected: box"),
        ("worker", "fsync", "mess/*"),
        ("qmail-send", "write", "pid/x1"),
        ("qmail-send", "unlink", "mess/*/N1"),
        ("qmail-send", "link", "pid/x1 mess/*/N2"),
        ("qmail-send", "create", "unexpected: new"),
        ("qmail-send", "truncate", "unexpected: new"),
    ]


@pytest.mark.parametrize(
    ("real", "is_same"),
    [
        ([("a", "link", "x"), ("a", "fsync", "p"), ("a", "fsync", "q"), ("b", "unlink", "x")], True),
        ([("a", "link", "x"), ("a", "syncfs", "p"), ("b", "unlink", "x")], True),
        ([("a", "link", "x"), ("a", "fsync", "p"), ("b", "unlink", "x")], False),
        ([("a", "link", "x"), ("a", "fsync", "q"), ("a", "fsync", "p"), ("b", "unlink", "x")], False),
        ([("a", "link", "x"), ("b", "unlink", "x"), ("a", "syncfs", "p")], False),
        ([("a", "link", "x"), ("b", "syncfs", "p"), ("b", "unlink", "x")], False),
        ([("a", "link", "x"), ("a", "syncfs", "p")], False),
        ([("a", "link", "x"), ("a", "syncfs", "p"), ("b", "unlink", "x"), ("b", "write", "x")], False),
    ],
)
def test_the_comparison_notices(real: list[Effect], is_same: bool) -> None:
    model: list[Modelled] = [("a", "link", "x"), ("a", "sync", ["p", "q/"]), ("b", "unlink", "x")]
    assert (difference(real, model) == "") is is_same


@pytest.mark.parametrize(
    ("real", "is_same"),
    [
        ([("a", "fsync", "p"), ("a", "fsync", "d"), ("a", "fsync", "q")], True),
        ([("a", "syncfs", "p")], True),
        ([("a", "written out", "p"), ("a", "written out", "q")], True),
        ([("a", "written out", "p")], False),
        ([("a", "written out", "p"), ("a", "written out", "d"), ("a", "written out", "q")], False),
        ([("b", "written out", "p"), ("b", "written out", "q")], False),
        ([], False),
    ],
)
def test_a_barrier_is_a_sync_or_its_files_are_written_out(real: list[Effect], is_same: bool) -> None:
    assert (difference(real, [("a", "barrier", ["p", "d/", "q"])]) == "") is is_same
    if real and real[0][1] == "written out":
        assert difference(real, [("a", "sync", ["p", "d/", "q"])])
