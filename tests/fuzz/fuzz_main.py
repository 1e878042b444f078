"""`make fuzz SECONDS=...`: every target with inputs that nobody has seen, for a given time.

Guided by coverage where atheris is installed (`pip install '.[fuzz]'`), else by mutation of the corpus. A finding is
printed, kept in tests/fuzz/found/ and makes the exit code 1; it becomes a named test and its bytes join the corpus.
"""

import argparse
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from importlib.util import find_spec
from pathlib import Path

if "--guided" in sys.argv:
    import atheris

    with atheris.instrument_imports(include=["notqmail", "dns"]):  # all of Python would take half a minute a target
        import fuzz_adopt
        import fuzz_commands
        import fuzz_fetch
        import fuzz_files
        import fuzz_filters
        import fuzz_ledger
        import fuzz_qmtp
        import fuzz_queue
        import fuzz_sessions
        import fuzz_wide
        import fuzz_wire
else:
    import fuzz_adopt
    import fuzz_commands
    import fuzz_fetch
    import fuzz_files
    import fuzz_filters
    import fuzz_ledger
    import fuzz_qmtp
    import fuzz_queue
    import fuzz_sessions
    import fuzz_wide
    import fuzz_wire

from fuzz_driver import CORPUS, SIZE_MAX, TARGETS, Target, mutated, run

from notqmail.receive import queue_callers

TARGET_MODULES = (
    fuzz_adopt,
    fuzz_commands,
    fuzz_fetch,
    fuzz_files,
    fuzz_filters,
    fuzz_ledger,
    fuzz_qmtp,
    fuzz_queue,
    fuzz_sessions,
    fuzz_wide,
    fuzz_wire,
)
FOUND = Path(__file__).parent / "found"
MEMORY_BYTES = 2 * 1024**3


def main() -> int:
    """Exit code 0: nothing found."""
    queue_callers.complain = lambda _text: None  # it says a line about each broken client
    options = _options()
    names = options.target or sorted(TARGETS)
    if options.guided:
        return guided(TARGETS[names[0]], options.seconds, options.seed, options.work)
    engine = "atheris" if options.engine != "mutation" and find_spec("atheris") else "mutation"
    print(f"fuzz: {len(names)} targets, {options.seconds} s in all, seed {options.seed}, engine: {engine}", flush=True)
    failed, executions, began_s = 0, 0, time.monotonic()
    for name in names:
        each_s = max(1.0, options.seconds / len(names))
        run_one = _guided_run if engine == "atheris" else _mutation_run
        count, found = run_one(TARGETS[name], each_s, options.seed)
        print(f"fuzz: {name:16} {count:9} executions {each_s:6.1f} s  {'FOUND' if found else 'ok'}", flush=True)
        executions, failed = executions + count, failed + found
    print(f"fuzz: {executions} executions in {time.monotonic() - began_s:.0f} s, {failed} targets with findings")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big") & 0x7FFFFFFF)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--engine", choices=("atheris", "mutation"), default="atheris")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)  # one target, in a process of its own
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)  # an empty directory for it
    return parser.parse_args()


def _mutation_run(one: Target, seconds: float, seed: int) -> tuple[int, bool]:
    """Until the time is up or the first finding: (executions, whether there was one)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    chance, pool, count = random.Random(f"{seed} {one.name}"), one.corpus(), 0
    end_s = time.monotonic() + seconds
    try:
        while time.monotonic() < end_s:
            data = mutated(chance, one, pool)
            count += 1
            try:
                run(one, data)
            except Exception:  # noqa: BLE001 - every exception is a finding, and that is all this is for
                _report(one, data)
                return count, True
            if chance.random() < 0.01:
                pool.append(data)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return count, False


def _report(one: Target, data: bytes) -> None:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{one.name}-{zlib.crc32(data):08x}"
    path.write_bytes(data)
    print(f"fuzz: {one.name}: kept as {path}\n  {data!r}", flush=True)
    traceback.print_exc(limit=-6)


def _guided_run(one: Target, seconds: float, seed: int) -> tuple[int, bool]:
    """The same in a process of its own: libFuzzer never gives control back."""
    with tempfile.TemporaryDirectory(prefix="notqmail-fuzz-") as work:
        done = subprocess.run(
            [sys.executable, __file__, "--guided", "--target", one.name, "--seconds", str(seconds), "--seed", str(seed),
             "--work", work],
            capture_output=True, timeout=seconds * 3 + 60, check=False,
        )  # fmt: skip
    text = done.stderr.decode("utf-8", "replace") + done.stdout.decode("utf-8", "replace")
    counted = re.findall(r"(?:Done |stat::number_of_executed_units:\s*|#)(\d+)", text)
    if done.returncode:
        print(text[-3_000:], flush=True)
    return max(map(int, counted), default=0), done.returncode != 0


def guided(one: Target, seconds: float, seed: int, work: Path) -> int:
    """Runs atheris on one target; does not return, so `work` is removed by whoever made it."""
    # New inputs go to a directory of their own, not to the corpus: a finding is what is kept.
    new, words = work / "new", work / "words"
    new.mkdir()
    FOUND.mkdir(exist_ok=True)
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in one.words if word))
    arguments = [
        sys.argv[0], str(new), str(CORPUS / one.name), f"-max_total_time={max(1, int(seconds))}",
        f"-seed={seed % 2**31}",
        f"-dict={words}", f"-max_len={min(one.size_max, SIZE_MAX)}", f"-artifact_prefix={FOUND}/{one.name}-",
        "-print_final_stats=1", "-rss_limit_mb=2048", "-timeout=10",
    ]  # fmt: skip
    atheris.Setup(arguments, one.check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
