"""The two systems of a comparison, standing side by side, and what every row needs to know of a run."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import load
import ours
import postfix
from meter import Meter

Figures = Mapping[str, float]


class Side:
    """One of the two systems with its meter."""

    def __init__(self, name: str, system: "ours.OurSystem | postfix.PrivatePostfix", meter: Meter) -> None:
        self.name, self.system, self.meter = name, system, meter
        self.recipient = getattr(system, "recipient", "bench@bench.test")

    @property
    def is_ours(self) -> bool:
        """Whether it is not the peer."""
        return isinstance(self.system, ours.OurSystem)


Builder = Callable[[Meter], "ours.OurSystem | postfix.PrivatePostfix"]


class Bench:
    """A run: where, how much of everything, and the pair of systems that most rows share (`sides`).

    The shared pair relays what is not for bench.test to `relay_port`, where a row lets a sink listen, with the
    concurrency both systems have by default (20 to one destination).
    """

    def __init__(
        self, directory: Path, *, agent: str, pairs: int, messages: int, quick: bool, waiting: int, roomy: Path,
        keep_logs: Path | None = None,
    ) -> None:  # fmt: skip
        self.directory, self.agent, self.pairs, self.messages, self.quick = directory, agent, pairs, messages, quick
        self.waiting, self.roomy, self.keep_logs = waiting, roomy, keep_logs
        self.relay_port = load.free_port()
        self._shared: list[Side] = []
        self._stood = 0

    @property
    def few_pairs(self) -> int:
        """For rows whose single measurement takes a minute."""
        return min(self.pairs, 2)

    def fresh_directory(self, name: str) -> Path:
        """One that does not exist yet, on the disk of this run."""
        self._stood += 1
        return self.directory / f"{name}{self._stood}"

    def sides(self) -> list[Side]:
        """The shared pair: ours, then Postfix."""
        if not self._shared:
            port = self.relay_port
            self._shared = start(self.both(
                lambda base, wrap: ours.OurSystem(base, load.free_port(), relay_port=port, wrap=wrap),
                lambda base, wrap: postfix.PrivatePostfix(base, load.free_port(), relay_port=port, agent=self.agent,
                                                          wrap=wrap),
            ))  # fmt: skip
        return self._shared

    def both(
        self,
        our: "Callable[[Path, Callable[[list[str]], list[str]]], ours.OurSystem]",
        peer: "Callable[[Path, Callable[[list[str]], list[str]]], postfix.PrivatePostfix]",
    ) -> list[tuple[str, Builder]]:
        """Builders for `start`, each with a directory of its own."""
        places = self.fresh_directory("ours"), self.fresh_directory("postfix")
        return [
            ("ours", lambda meter: our(places[0], meter.inside)),
            ("postfix", lambda meter: peer(places[1], meter.inside)),
        ]

    def drop_sides(self, *, failed: bool = False) -> None:
        """Stops the shared pair; the next row that wants one gets a fresh one."""
        if failed:
            show_logs(self._shared)
        sides, self._shared = self._shared, []
        take_down(sides)
        for side in sides:
            if self.keep_logs is not None:
                shutil.copy(side.system.log, self.keep_logs / f"{side.name}{self._stood}.log")
            shutil.rmtree(side.system.base)

    @contextmanager
    def own_sides(self, builders: list[tuple[str, Builder]], *, abruptly: bool = False) -> Iterator[list[Side]]:
        """Systems for one row alone; their disk is given back at the end. `abruptly`: see `take_down`."""
        sides = start(builders)
        try:
            yield sides
        except (load.Late, RuntimeError):
            show_logs(sides)
            raise
        finally:
            take_down(sides, abruptly=abruptly)
            for side in sides:
                shutil.rmtree(side.system.base)


def alternating(sides: list[Side], number: int) -> list[Side]:
    """The order of the pair with this number."""
    return sides if number % 2 == 0 else sides[::-1]


def start(builders: list[tuple[str, Builder]]) -> list[Side]:
    """The systems, running. What was started before a failure is stopped again."""
    sides: list[Side] = []
    try:
        for name, build in builders:
            meter = Meter(f"{name}{len(sides)}")
            try:
                side = Side(name, build(meter), meter)
            except BaseException:
                meter.close()
                raise
            sides.append(side)
            side.system.start()
            load.wait_listening(side.system.port)
            meter.parents.update(side.system.top_pids)
    except BaseException:
        take_down(sides)
        raise
    return sides


def take_down(sides: list[Side], *, abruptly: bool = False) -> None:
    """Stops them and says what is left; nothing should be.

    `abruptly`: they are killed; ours would finish its deliveries first, and some of them never end.
    """
    for side in sides:
        try:
            for pid in side.meter.pids() if abruptly else ():
                with suppress(ProcessLookupError):  # it ended while we looked
                    os.kill(pid, signal.SIGKILL)
            if side.is_ours or not abruptly:
                side.system.stop()
        except RuntimeError as error:
            say(f"{side.name}: {error}")
        if left := side.meter.close():
            say(f"{side.name}: processes left behind: {left}")


def show_logs(sides: list[Side]) -> None:
    """The end of both logs, for whoever looks for the reason."""
    for side in sides:
        log = side.system.log.read_text(errors="replace") if side.system.log.exists() else ""
        print(f"--- last lines of {side.name} ---\n" + "\n".join(log.splitlines()[-15:]), file=sys.stderr)


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)
