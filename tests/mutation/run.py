"""Mutation testing: do the tests notice when a line of queue/, wire/ or control/ is wrong?

    make mutants SECONDS=600 [SEED=7] [ONLY=queue/store.py]

Draws mutants by the seed until the time is over. Each is put into a copy of the repository and the tests that import
its module run there, then, if nothing failed, those that import a module that imports it (for queue/ the power-cut
tests too). A survivor is a hole in the tests or a change without effect: tests/mutation/survivors.md says which.
"""

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "measure"))

from copied_tree import REPOSITORY, copied_tree
from mutants import Mutant, mutants_of

PACKAGES = ["queue", "wire", "control"]
LIMIT_S = 90  # for one mutant's tests; longer means that it hangs, and that is noticed too


def _importers(texts: dict[str, str], module: str) -> list[str]:
    """The files that import this module."""
    package, _, name = module.rpartition(".")

    def imports(text: str) -> bool:
        return f"from {module} import" in text or any(
            line.startswith(f"from {package} import") and name in line for line in text.splitlines()
        )

    return sorted(path for path, text in texts.items() if imports(text))


class Tests:
    """Which tests run for a module."""

    def __init__(self) -> None:
        self._sources = self._read("src/notqmail", "**/*.py")
        self._tests = {**self._read("tests/unit", "test_*.py"), **self._read("tests/property", "test_*.py")}

    @staticmethod
    def _read(directory: str, pattern: str) -> dict[str, str]:
        files = sorted((REPOSITORY / directory).glob(pattern))
        return {str(file.relative_to(REPOSITORY)): file.read_text() for file in files}

    def stages(self, path: str) -> list[list[str]]:
        """The near ones, then the others."""
        module = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
        near = _importers(self._tests, module)
        far: set[str] = set()
        for source in _importers(self._sources, module):
            far |= set(_importers(self._tests, source.removeprefix("src/").removesuffix(".py").replace("/", ".")))
        if "/queue/" in path:
            far |= {"tests/crash/test_submit_power_cuts.py", "tests/crash/test_life_power_cuts.py"}
        return [tests for tests in (near, sorted(far - set(near))) if tests]


def survives(copy: Path, path: str, mutant: Mutant, stages: list[list[str]]) -> bool:
    """Whether no test minds it."""
    target = copy / path
    original = target.read_text()
    target.write_text(mutant.text)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=40"]
    try:
        for tests in stages:
            command = [sys.executable, "-m", "pytest", *options, *tests]
            try:
                done = subprocess.run(
                    command, cwd=copy, env=environment, capture_output=True, timeout=LIMIT_S, check=False
                )
            except subprocess.TimeoutExpired:
                return False
            if done.returncode:
                return False
        return True
    finally:
        target.write_text(original)


class Count:
    """What came out, for both threads."""

    def __init__(self, drawn: list[tuple[str, Mutant]], until_s: float) -> None:
        self.drawn, self.until_s, self.lock = drawn, until_s, threading.Lock()
        self.killed, self.survivors = 0, list[str]()

    def next(self) -> tuple[str, Mutant] | None:
        with self.lock:
            return self.drawn.pop(0) if self.drawn and time.monotonic() < self.until_s else None


def work(count: Count, tests: Tests) -> None:
    """One thread: mutants in its own copy until there are no more."""
    with copied_tree("notqmail-mutants-") as copy:
        while (found := count.next()) is not None:
            path, mutant = found
            alive = survives(copy, path, mutant, tests.stages(path))
            with count.lock:
                if alive:
                    count.survivors.append(f"{path}:{mutant.line}: {mutant.what}")
                    print("survived", count.survivors[-1], flush=True)
                else:
                    count.killed += 1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the path")
    asked = parser.parse_args()
    everything = [
        (str(file.relative_to(REPOSITORY)), mutant)
        for package in PACKAGES
        for file in sorted((REPOSITORY / "src" / "notqmail" / package).glob("*.py"))
        if asked.only in str(file)
        for mutant in mutants_of(file.read_text())
    ]
    drawn = random.Random(asked.seed).sample(everything, len(everything))
    count = Count(drawn, time.monotonic() + asked.seconds)
    tests = Tests()
    threads = [threading.Thread(target=work, args=(count, tests)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tried = count.killed + len(count.survivors)
    print(f"seed {asked.seed}: {tried} of {len(everything)} mutants tried, {count.killed} killed,", end=" ")
    print(f"{len(count.survivors)} survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
