"""Mutation testing: do the tests notice when a line is wrong?

    make mutants SECONDS=600 [SEED=7]        of queue/, wire/ and control/
    make mutants SECONDS=all ONLY=fetch/pop3d.py,wire/pop3.py
                                             of these files, wherever they are; a part of a path is enough
    make mutants SECONDS=all RESULT=FILE     all there are, with a line for each in FILE
    make mutants SECONDS=all AGAIN=FILE      only those that survived there

Draws mutants by the seed until the time is over. Each is put into a copy of the repository, and the tests that run its
line run there, the nearest and quickest first, until one fails. A survivor is a hole in the tests or a change without
effect: tests/mutation/survivors.md says which. Which tests run a line is measured first; that time is not counted.
With ONLY, just the tests that import one of the files, or something that does, are measured and asked.
"""

import argparse
import compileall
import multiprocessing
import os
import py_compile
import random
import sys
import time
from contextlib import ExitStack
from multiprocessing.pool import Pool
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "measure"))

from copied_tree import copied_tree
from forked_tests import PASSED, Chosen, preload, run_pytest
from mutants import Mutant, mutants_of
from which_tests import ASKED, Tests, measure, tests_near

PACKAGES = ["queue", "wire", "control"]  # what is drawn from where no file is named
WORKERS = 2
TEST_LIMIT_S = 10  # one test: longer means that it hangs, and that is noticed too


def name_of(path: str, mutant: Mutant) -> str:
    """How a mutant is called in lists."""
    return f"{path}:{mutant.line}: {mutant.what}"


class Verdict:
    """What the tests said of a mutant. `by`: the test that failed, or how it ended otherwise; empty: it survived."""

    def __init__(self, path: str, mutant: Mutant, asked: int, by: str) -> None:
        self.name, self.asked, self.by = name_of(path, mutant), asked, by

    def line(self) -> str:
        """For the result file."""
        return f"killed {self.name} by {self.by}" if self.by else f"survived {self.name} ({self.asked} tests)"


class Worker:
    """One of the processes: a copy of the repository, in which mutants are put one after the other."""

    def __init__(self, copy: Path, tests: Tests, until_s: float) -> None:
        self._copy, self._tests, self._until_s = copy, tests, until_s

    def try_one(self, path: str, mutant: Mutant) -> Verdict | None:
        """None when the time is over."""
        if time.monotonic() > self._until_s:
            return None
        stages = self._tests.for_place(path, mutant.place)
        target = self._copy / path
        original = target.read_text()
        target.write_text(mutant.text)
        try:
            by = next(filter(None, map(self._killer, stages)), "")
            return Verdict(path, mutant, sum(map(len, stages)), by)
        finally:
            target.write_text(original)

    def _killer(self, tests: list[str]) -> str:
        """The first of these that fails."""
        said = self._copy.parent / "failed"
        said.unlink(missing_ok=True)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        limit_s = 30 + 4 * sum(self._tests.seconds[test] for test in tests)
        options = ["-x", "-o", f"timeout={TEST_LIMIT_S}", *files]
        code = run_pytest(self._copy, options, Chosen(tests, said), limit_s)
        if said.exists():
            return "" if said.read_text() == PASSED else said.read_text()
        return "taking too long" if code is None else f"exit code {code}"  # it cannot even be imported, or worse


_worker: Worker | None = None


def _begin(copies: "multiprocessing.Queue[Path]", tests: Tests, until_s: float) -> None:
    global _worker
    _worker = Worker(copies.get(), tests, until_s)


def _try(job: tuple[str, Mutant]) -> Verdict | None:
    assert _worker is not None
    return _worker.try_one(*job)


def _chosen(copy: Path, only: list[str]) -> list[str]:
    """The files that are changed, as paths below the copy."""
    package = copy / "src" / "notqmail"
    found = sorted(file.relative_to(package) for file in package.glob("**/*.py") if "testing" not in file.parts)
    wanted = [file for file in found if (not only and file.parts[0] in PACKAGES) or _has_any(only, str(file))]
    assert wanted, f"no file is called {only}"
    return [f"src/notqmail/{file}" for file in wanted]


def _has_any(parts: list[str], path: str) -> bool:
    return any(part in path for part in parts)


def _population(copy: Path, files: list[str]) -> list[tuple[str, Mutant]]:
    return [(file, mutant) for file in files for mutant in mutants_of((copy / file).read_text())]


def _survivors(result: str) -> set[str]:
    """Those that a result file names."""
    with open(result) as file:
        return {line.split(" ", 1)[1].rpartition(" (")[0] for line in file if line.startswith("survived ")}


def _measured(copies: list[Path], changed: list[str], *, near: bool) -> Tests:
    """Both measuring runs at once; then the libraries that they needed are loaded here.

    `near`: only the tests that are near what is changed.
    """
    files = sorted(file for top in ("src", "tests") for file in (copies[0] / top).glob("**/*.py"))
    texts = {str(file.relative_to(copies[0])): file.read_text() for file in files}
    asked = tests_near(texts, changed) if near else ASKED
    with Pool(2) as pool:
        recorded = pool.apply_async(measure, (copies[0], asked), {"lines": True})
        timed = pool.apply_async(measure, (copies[1], asked), {"lines": False})
        results = recorded.get(), timed.get()
    assert isinstance(results[1]["modules"], list)
    preload(results[1]["modules"])
    return Tests(*results, texts)


def _compiled(copy: Path) -> None:
    """A changed source is compiled anew even when its time and size are the old ones."""
    compileall.compile_dir(copy / "src", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)


def _seconds(text: str) -> float:
    return float("inf") if text == "all" else float(text)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=_seconds, default=300.0, help="or: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="parts of paths, with commas between them")
    parser.add_argument("--result", default=os.devnull, help="a file: a line for each mutant tried")
    parser.add_argument("--again", default="", help="a result file: only what survived there")
    asked = parser.parse_args()
    again = _survivors(asked.again) if asked.again else None
    with ExitStack() as stack, open(asked.result, "w") as result:
        copies = [stack.enter_context(copied_tree("notqmail-mutants-")) for _ in range(WORKERS)]
        for copy in copies:
            _compiled(copy)
        only = [part for part in asked.only.split(",") if part]
        changed = _chosen(copies[0], only)
        everything = [one for one in _population(copies[0], changed) if again is None or name_of(*one) in again]
        drawn = random.Random(asked.seed).sample(everything, len(everything))
        tests = _measured(copies, changed, near=bool(only))
        assert tests.seconds, "no test passes"
        print(f"{len(tests.seconds)} tests are asked; not these, which failed or were skipped: {tests.left_out}")
        free: multiprocessing.Queue[Path] = multiprocessing.Queue()
        for copy in copies:
            free.put(copy)
        tried, survived = 0, 0
        with Pool(WORKERS, _begin, (free, tests, time.monotonic() + asked.seconds)) as pool:
            for verdict in filter(None, pool.imap(_try, drawn)):
                tried += 1
                survived += not verdict.by
                print(verdict.line(), file=result, flush=True)
                if not verdict.by:
                    print(verdict.line(), flush=True)
    print(f"seed {asked.seed}: {tried} of {len(everything)} mutants tried,", end=" ")
    print(f"{tried - survived} killed, {survived} survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
