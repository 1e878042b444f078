"""Branch coverage over unit, property, crash and process tests together, child processes included.

The launchers in HOME/bin start Python with -IS, which ignores every environment variable that coverage.py could be
started by. So the tests run in a copy of the repository whose `notqmail/__init__.py` starts the measuring: every
process that imports the package is measured, whoever started it, as any user, and the product is as it is.

Not measured: what a process did that ended by SIGKILL, ran out of its memory limit or replaced itself by C's execve
without Python's help; `python -IS -c` children, whose tests count the imported modules; and shell scripts.

    make coverage                        prints the table and writes docs/explanation/coverage.md
    make coverage COVERAGE='-k store'    arguments for pytest; then nothing is written
    make coverage COVERAGE='--room=fetch/ --room=wire/pop3.py tests/unit/test_pop3_session.py'
                                         a room by its own tests: which of its lines and branches never ran
"""

import datetime
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from copied_tree import REPOSITORY, copied_tree

DIRECTORIES = ["tests/unit", "tests/property", "tests/crash", "tests/process"]
WANTED = 80  # per cent of lines and branches of each file; below it, the page has to say why
PAGE = REPOSITORY / "docs" / "explanation" / "coverage.md"
REASONS = Path(__file__).parent / "coverage_reasons.txt"
SINCE = "## Since that run"  # what people add to the page stands under it

_HOOK = """
# -- only in the copy that is measured --
import sys
if not (sys.flags.isolated and sys.argv[:1] == ["-c"]):
    try:
        import coverage
    except ImportError:
        pass  # an account that may not read the libraries
    else:
        if coverage.Coverage.current() is None:
            import atexit
            _measured = coverage.Coverage(config_file={config!r}, data_suffix=True)
            _measured.start()
            atexit.register(lambda: (_measured.stop(), _measured.save()))
"""
_CONFTEST = """

def pytest_sessionfinish() -> None:
    import coverage

    measured = coverage.Coverage.current()
    if measured is not None:
        measured.save()
"""


def settings(copy: Path, data: Path) -> str:
    return f"""[run]
branch = true
source = {copy}/src/notqmail
omit = {copy}/src/notqmail/testing/*
data_file = {data}/coverage
patch = _exit, execv, fork
disable_warnings = no-data-collected, module-not-measured, module-not-imported, no-sysmon, already-imported
[paths]
source =
    src/notqmail
    {copy}/src/notqmail
[report]
exclude_also =
    if TYPE_CHECKING:
"""


def measure(copy: Path, pytest_arguments: list[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """What coverage.py says of each file, and pytest's last line."""
    data = copy.parent / "data"
    data.mkdir()
    data.chmod(0o1777)  # every account that a test becomes leaves its figures here
    config = copy.parent / "coveragerc"
    config.write_text(settings(copy, data))
    with open(copy / "src" / "notqmail" / "__init__.py", "a") as file:
        file.write(_HOOK.format(config=str(config)))
    with open(copy / "tests" / "conftest.py", "a") as file:
        file.write(_CONFTEST)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-o", "timeout=300"]
    where = [] if any(argument.startswith("tests/") for argument in pytest_arguments) else DIRECTORIES
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "HYPOTHESIS_STORAGE_DIRECTORY": str(data)}
    done = subprocess.run(
        [*command, *where, *pytest_arguments], cwd=copy, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout)
    coverage = [sys.executable, "-m", "coverage"]
    options = ["--rcfile", str(config)]
    subprocess.run([*coverage, "combine", "--quiet", *options, str(data)], cwd=REPOSITORY, check=True)
    result = copy.parent / "coverage.json"
    subprocess.run([*coverage, "json", "--quiet", *options, "-o", str(result)], cwd=REPOSITORY, check=True)
    files = json.loads(result.read_text())["files"]
    by_name = {name[name.rindex("/src/notqmail/") + 14 :]: files[name] for name in sorted(files)}
    return by_name, done.stdout.strip().rpartition("\n")[2].strip("= ")


def never_run(name: str, file: dict[str, Any]) -> str:
    """A line about a file: its share, and what no test ran. A branch is `from->to`, 0 the end of the function."""
    lines = [f"{first}" if first == last else f"{first}-{last}" for first, last in _runs(file["missing_lines"])]
    missing = set(file["missing_lines"])
    branches = [f"{at}->{max(to, 0)}" for at, to in file["missing_branches"] if not {at, to} & missing]
    return " ".join([f"{name} {per_cent([file['summary']])[4]:.1f} %", *lines, *branches])


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers in order, neighbours together."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        together = bool(found) and found[-1][1] == number - 1
        found[-1:] = [(found[-1][0], number)] if together else [*found[-1:], (number, number)]
    return found


def per_cent(totals: "list[dict[str, int]]") -> tuple[int, int, int, int, float]:
    """Lines, lines run, branches, branches taken, and the share of both together."""
    lines = sum(one["num_statements"] for one in totals)
    run = sum(one["covered_lines"] for one in totals)
    branches = sum(one["num_branches"] for one in totals)
    taken = sum(one["covered_branches"] for one in totals)
    return lines, run, branches, taken, 100 * (run + taken) / (lines + branches) if lines + branches else 100.0


def parts(text: str) -> list[str]:
    """The paragraphs of a document."""
    return [part.strip("\n") for part in text.split("\n\n") if part.strip("\n")]


def page(files: dict[str, dict[str, int]], ending: str) -> str:
    """The document."""
    packages: dict[str, list[dict[str, int]]] = defaultdict(list)
    for name, summary in files.items():
        packages[name.partition("/")[0] if "/" in name else "(top)"].append(summary)
    rows = [(name, *per_cent(totals)) for name, totals in sorted(packages.items())]
    rows.append(("**all**", *per_cent(list(files.values()))))
    table = "\n".join(
        f"| {name} | {lines} | {run} | {branches} | {taken} | {share:.1f} % |"
        for name, lines, run, branches, taken, share in rows
    )
    reasons = dict(line.split("\t", 1) for line in REASONS.read_text().splitlines() if "\t" in line)
    low = "\n".join(
        f"| {name} | {per_cent([summary])[4]:.0f} % | {reasons.get(name, 'nobody has looked yet')} |"
        for name, summary in files.items()
        if per_cent([summary])[4] < WANTED
    )
    return f"""# What the tests run

`make coverage` wrote this page on {datetime.date.today().isoformat()} (Python {sys.version.split()[0]}; pytest said:
{ending}).

It is branch coverage over unit, property, crash and process tests together, child processes included. What stands under
"Since that run", if that is there, was written by hand, and goes when the page is written anew.

A line that ran is not a line that is right; a line that never ran is one nobody knows. That is all this is for.

| package | lines | run | branches | taken | both |
|---|---:|---:|---:|---:|---:|
{table}

Below {WANTED} %:

| file | both | why |
|---|---:|---|
{low}

Not measured: `testing/` (tools of the tests); what a process did that ended by SIGKILL or ran out of its memory limit,
and `python -IS -c` children. So the figures of residents that tests kill are a little too low. How it works:
`tests/measure/coverage_run.py`.

Tests that fail here and not without measuring are about the measuring (which files a process opens, which modules it
has, how soon it is there): `make test` is the judge, not this run.
"""


def main() -> int:
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(__doc__, end="")
        return 0
    rooms = tuple(argument.removeprefix("--room=") for argument in arguments if argument.startswith("--room="))
    with copied_tree("notqmail-coverage-") as copy:
        measured, ending = measure(copy, [argument for argument in arguments if not argument.startswith("--room=")])
    if rooms:
        print("\n".join(never_run(name, file) for name, file in measured.items() if name.startswith(rooms)))
        return 0
    text = page({name: file["summary"] for name, file in measured.items()}, ending)
    print(text)
    if not arguments:
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
