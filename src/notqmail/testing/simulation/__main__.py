"""`python -m notqmail.testing.simulation`: one seed, or many for some seconds; a violation prints how to repeat it."""

import argparse
import sys
import time

from notqmail.testing.simulation.run import Simulation


def main() -> int:
    """The exit code: 0 all rules held, 1 one did not."""
    parser = argparse.ArgumentParser(prog="python -m notqmail.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--days", type=float, default=3, help="days of traffic and trouble (default 3)")
    parser.add_argument("--seconds", type=float, default=0, help="go on with the next seeds for so long")
    parser.add_argument("--last", type=int, default=60, help="lines of history shown with a violation")
    arguments = parser.parse_args()
    began = time.monotonic()
    seed, days, events = arguments.seed, 0.0, 0
    while True:
        one = Simulation(seed, arguments.days)
        held = one.run()
        days, events = days + one.simulated_days, events + one.clock.events
        if not held or not arguments.seconds:
            _print_one(one, arguments.last)
        if not held:
            return 1
        if time.monotonic() - began >= arguments.seconds:
            break
        seed += 1
    spent_s = time.monotonic() - began
    print(
        f"{seed - arguments.seed + 1} seeds from {arguments.seed}: {days:.0f} simulated days, {events} events in "
        f"{spent_s:.1f} s ({days / spent_s:.1f} days a second); every rule held"
    )
    return 0


def _print_one(one: Simulation, last: int) -> None:
    if one.violation is not None:
        for line in list(one.clock.journal)[-last:]:
            print(line)
        print(f"VIOLATION {one.violation}")
        print(f"repeat: python -m notqmail.testing.simulation --seed {one.seed} --days {one.days:g}")
    print(f"seed {one.seed}: {one.simulated_days:.1f} days, {one.clock.events} events, digest {one.clock.digest:08x}")
    for name, count in sorted(one.account.counts.items()):
        print(f"  {name}: {count}")
    for cause, count in sorted(one.account.causes.items()):
        print(f"  duplicates, {cause}: {count}")


if __name__ == "__main__":
    sys.exit(main())
