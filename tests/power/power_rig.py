"""Records a workload on a real file system of the kernel, cuts its power, and looks what is found.

    python tests/power/power_rig.py --file-system ext4 --work mail --cuts 200 --seed 7

A process of its own: its mounts and all that it starts end with it. The report is JSON, one line; the exit code 0 means
that every rule held, 1 that one did not, 3 that this machine cannot do it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent))
sys.path.insert(1, str(Path(__file__).parent.parent / "crash"))
sys.path.insert(1, str(Path(__file__).parent.parent / "interop"))

import power_mounts
from power_cuts import Cut, Record
from power_disk import ORDERS
from power_kinds import KINDS, Kind
from power_recorder import Recorder, copied, data_extents, new_image
from power_system import SystemWork
from power_work import LifeWork, MailWork, QueueWork, Work, disk_kind

WORKS: dict[str, type[Work]] = {"queue": QueueWork, "mail": MailWork, "life": LifeWork, "system": SystemWork}
NOT_HERE = 3
_DEADLINE_S = 60.0  # for each step but the cuts
_CUT_DEADLINE_S = 70.0
_NEIGHBOUR_WAITS_S, _NEIGHBOUR_MAX = 0.004, 1 << 20  # at most; bytes in one file
_FAULTS_SHOWN, _SHOWN = 5, 300


class Result:
    """What a run found."""

    def __init__(self) -> None:
        self.cuts = self.writes = self.flushes = self.marks = self.unsettled = self.lost_disks = 0
        self.faulty: list[tuple[int, str, list[str]]] = []  # events before the cut, what was kept, the faults
        self.recorded_s = self.cut_s = 0.0

    def shown(self) -> dict[str, object]:
        """For JSON."""
        return {**self.__dict__, "faulty": self.faulty[:_FAULTS_SHOWN], "faults": len(self.faulty)}


class Rig:
    """One file system and one workload. `place` is an empty directory, on any disk, for mount points and the log."""

    def __init__(self, kind: Kind, work: Work, place: Path, options: argparse.Namespace) -> None:
        self._kind, self._work, self._place, self._options = kind, work, place, options
        self._mounted, self._disk = place / "m", place / "disk"
        self._mounted.mkdir()
        self._disk.touch()
        self._home = self._mounted / "h"

    def record(self) -> Record:
        """The workload from its beginning to its end, on a disk that remembers."""
        image = new_image(self._kind.size)
        try:
            self._make(image)
            with self._on(image):
                self._work.prepare(self._home)
            first = copied(image)
            with _deadline(_DEADLINE_S):
                recorder = Recorder(image, self._disk, late_s=self._options.late, seed=self._options.seed)
                try:
                    self._play(recorder)
                finally:
                    events = recorder.stop(self._place / "record")
        finally:
            os.close(image)
        return Record(first, events, sector=self._kind.sector, lying=self._options.lying)

    def _play(self, recorder: Recorder) -> None:
        lock = threading.Lock()

        def mark(text: bytes) -> None:
            with lock:
                recorder.mark(text)

        device_file = os.open(self._disk, os.O_RDWR | os.O_CLOEXEC)
        try:
            with self._on(device_file, direct=True):
                mark(b"begin")
                with _neighbour(self._mounted / "neighbour") if self._options.neighbour else nullcontext():
                    self._work.play(self._home, mark, self._options.size)
                    mark(b"end")
        finally:
            os.close(device_file)

    def _make(self, image: int) -> None:
        path = f"/proc/self/fd/{image}"
        done = subprocess.run(
            [*self._kind.make, path],
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
            pass_fds=(image,),
        )
        if done.returncode:
            raise RuntimeError(f"{self._kind.make[0]}: {done.stderr}")

    @contextmanager
    def _on(self, image: int, *, direct: bool = False) -> Iterator[None]:
        with power_mounts.loop_device(image, direct=direct) as device:
            power_mounts.mount(device, self._mounted, self._kind.type, self._kind.options)
        try:
            yield
        except BaseException:
            power_mounts.detach(self._mounted)
            raise
        power_mounts.unmount(self._mounted)

    def cut(self, record: Record, result: Result, count: int, chance: random.Random, until_s: float) -> None:
        """Makes so many cuts, or fewer when that is enough. Counts and faults go into `result`."""
        for one in record.cuts(count, chance):
            with _deadline(_CUT_DEADLINE_S):
                found = self._look(one, result)
            result.cuts += 1
            result.unsettled += one.unsettled
            if found:
                result.faulty.append((one.at, one.text, [text[:_SHOWN] for text in found[:_FAULTS_SHOWN]]))
            if time.monotonic() > until_s or (found and self._options.until_fault):
                return

    def _look(self, cut: Cut, result: Result) -> list[str]:
        try:
            with self._on(cut.image):
                found = self._work.faults(self._home, cut.marks)
        except OSError as error:
            result.lost_disks += 1
            found = [f"the file system cannot be used: {error}"]
        if found and self._options.keep:
            with open(f"{self._options.keep}/{cut.at}.marks", "wb") as file:
                file.write(b"\n".join(cut.marks))
            with open(f"{self._options.keep}/{cut.at}.image", "wb") as file:  # after the kernel's replay of its journal
                file.truncate(self._kind.size)
                for begin, end in data_extents(cut.image, self._kind.size):
                    os.pwrite(file.fileno(), os.pread(cut.image, end - begin, begin), begin)
        return found


@contextmanager
def _neighbour(place: Path) -> Iterator[None]:
    """Somebody else who writes to the same file system and syncs, so that its journal is written at any time."""
    ended = threading.Event()

    def write() -> None:
        chance = random.Random(0)
        while not ended.is_set():
            with place.open("ab") as file:
                file.write(bytes(chance.randrange(10_000)))
                file.flush()
                os.fsync(file.fileno())
            if place.stat().st_size > _NEIGHBOUR_MAX:
                place.unlink()
            ended.wait(chance.random() * _NEIGHBOUR_WAITS_S)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError(f"a step took more than {seconds:.0f} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(options: argparse.Namespace, place: Path) -> Result:
    """What the command line asks for. The namespace must be ours."""
    result, began = Result(), time.monotonic()
    chance = random.Random(options.seed)
    work = WORKS[options.work](chance, disk_kind(options.order, options.forget))
    rig = Rig(KINDS[options.file_system], work, place, options)
    record = rig.record()
    result.recorded_s = time.monotonic() - began
    result.writes, result.flushes = record.writes, len(record.flushes)
    result.marks = sum(event[0] == "mark" for event in record.events) - 2  # "begin" and "end" are no promises
    rig.cut(record, result, options.cuts, chance, began + options.seconds)
    result.cut_s = time.monotonic() - began - result.recorded_s
    return result


def options_of(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file-system", choices=KINDS, default="ext4")
    parser.add_argument("--work", choices=WORKS, default="mail")
    parser.add_argument("--size", type=int, default=40, help="messages (%(default)s)")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60, help="no new cut after so long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--late", type=float, default=0.0, help="seconds a write's answer may be late")
    parser.add_argument(
        "--neighbour", action="store_true", help="somebody else syncs the same file system all the time"
    )
    parser.add_argument("--order", choices=ORDERS, default="seen", help="what barriers count on")
    parser.add_argument(
        "--forget", action="append", default=[], help='leave something out: "sync todo", "barrier todo"'
    )
    parser.add_argument("--lying", action="store_true", help="a disk that forgets what it was told to flush")
    parser.add_argument(
        "--place", help="where to make a directory for what lies on no recorded disk; its name is short"
    )
    parser.add_argument("--until-fault", action="store_true", help="no more cuts when a rule did not hold")
    parser.add_argument("--keep", help="an existing directory for the disks on which a rule did not hold")
    return parser.parse_args(arguments)


def main() -> int:
    """See the module."""
    options = options_of(sys.argv[1:])
    power_mounts.die_with_parent()
    try:
        return power_mounts.apart(lambda: _report(options))
    except power_mounts.NotHere as missing:
        print(missing)
        return NOT_HERE


def _report(options: argparse.Namespace) -> int:
    try:
        if not shutil.which(KINDS[options.file_system].make[0]):
            raise power_mounts.NotHere(f"needs {KINDS[options.file_system].make[0]}")
        with tempfile.TemporaryDirectory(prefix="nqp", dir=options.place) as place:
            result = run(options, Path(place))
    except power_mounts.NotHere as missing:
        print(missing)
        return NOT_HERE
    print(json.dumps(result.shown()))
    return 1 if result.faulty else 0


if __name__ == "__main__":
    sys.exit(main())
