"""Chaos: the installed system under load while its processes are killed and its disk fails; then every message is
audited by its content (`make chaos`). Nothing but loopback, nobody's processes but its own, bounded time.

    python tests/chaos/run.py --seconds 300 --seed 7
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from chaos_classic import classic_phase
from chaos_place import Place
from chaos_round import Round
from chaos_sink import Sink
from chaos_watch import Watch

from free_ports import free_port

_ROUND_S = 45.0
_CLASSIC_SHARE = 0.25  # of the seconds, for root: the phase with qmail's accounts


def main() -> int:
    """0: every message is accounted for. 1: something was lost, torn, leaked or unexplained; it is printed."""
    options = _options()
    os.umask(0o022)
    place = Place()
    faults: list[str] = ["it did not come to its end"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        place.make(with_disk=not options.no_disk)
        faults = [] if options.only == "classic" else asyncio.run(_rounds(place, options))
        if not faults and options.only != "single-user":
            faults = classic_phase(max(5.0, options.seconds * _CLASSIC_SHARE), options.seed, _say)
            for fault in faults[:30]:
                _say(f"FAULT: {fault}")
    finally:
        keep = bool(faults) or options.keep
        place.close(keep=keep)
        if keep:
            print(f"kept: {place.base}")
    print(f"chaos: {'FAILED' if faults else 'every message is accounted for'} (seed {options.seed})")
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(100_000))
    parser.add_argument("--seconds", type=float, default=60, help="of trouble, in all rounds together (%(default)s)")
    parser.add_argument("--messages", type=int, default=20_000, help="at most, a round (%(default)s)")
    parser.add_argument("--drain", type=float, default=90, help="seconds a round may take to drain (%(default)s)")
    parser.add_argument("--under", choices=("services", "run", "both"), default="both", help="who restarts what dies")
    parser.add_argument("--only", choices=("single-user", "classic"), help="one of the two installations")
    parser.add_argument("--no-disk", action="store_true", help="no full disk and no read-only queue")
    parser.add_argument("--keep", action="store_true", help="keep the home even when all is well")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, flush=True)


async def _rounds(place: Place, options: argparse.Namespace) -> list[str]:
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:7.1f} {line}", flush=True)

    say(f"seed {options.seed}, home {place.home}")
    if place.disk_reason:
        say(f"SKIPPED: full disk and read-only queue: {place.disk_reason}")
    port = free_port()
    sink, watch = Sink(options.seed), Watch(place, port)
    await sink.start()
    _configure(place, sink.port)
    left_s, number, faults = options.seconds, 0, list[str]()
    disk_failed = False
    totals: dict[str, int] = {}
    while left_s > 0:
        length_s = left_s if left_s < 1.5 * _ROUND_S else _ROUND_S
        under = options.under if options.under != "both" else ("services", "services", "run")[number % 3]
        watch.under = under
        say(f"round {number}: {length_s:.0f} s under {under}")
        one = Round(place, watch, sink, say, port=port, seed=options.seed * 1000 + number, messages=options.messages,
                    pause_s=0.4 if under == "services" else 2.0)  # fmt: skip
        one.disk_failed = disk_failed
        await one.go(length_s, options.drain)
        say(f"round {number}: {one.report()}")
        for fault in one.book.faults[:30]:
            say(f"FAULT: {fault}")
        faults += one.book.faults
        totals = {name: totals.get(name, 0) + count for name, count in one.totals().items()}
        disk_failed |= one.disk_failed
        if faults:
            say(f"{len(faults)} faults; log: {place.log}")
            break
        left_s -= length_s
        number += 1
    await sink.stop()
    say(f"in all: {totals}")
    return faults


def _configure(place: Place, sink_port: int) -> None:
    place.control("smtproutes", f"sink.test:[127.0.0.1]:{sink_port}\n")
    place.control("virtualdomains", f"bulk.test:{place.user}-bulk\n")
    place.add_control("rcpthosts", "bulk.test")
    place.control("timeoutremote", "20\n")


if __name__ == "__main__":
    sys.exit(main())
