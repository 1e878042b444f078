"""Which tests run a line: measured once, on the unchanged program, before any mutant is tried.

Unit, property and the quick crash tests run twice: once under coverage.py, one context for each test, and once without
it. What fails in either (the measuring is felt by a few) is not asked later, for its failing would say nothing.
"""

import json
import sys
from pathlib import Path

import coverage
import pytest
from forked_tests import run_pytest
from mutants import Place

# The quick ones of the crash tests: a workload broken at each step costs seconds, too many to be asked for each mutant.
CRASH = [
    "submit_power_cuts",
    "life_power_cuts",
    "life_failures",
    "ledger_power_cuts",
    "maildir_tools_power_cuts",
    "repair_power_cuts",
    "tables_power_cuts",
    "pop3_power_cuts",
]
PROCESS = ["filter_running"]  # its programs are small scripts of its own, and what runs them is ours, in this process
ASKED = [
    "tests/unit", "tests/property",
    *(f"tests/crash/test_{name}.py" for name in CRASH), *(f"tests/process/test_{name}.py" for name in PROCESS),
]  # fmt: skip
_LIMIT_S = 900
AT_IMPORT = -1  # in place of a test's number


class Timed:
    """A pytest plugin: how long each test took, and which failed; written to `out` at the end."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:  # skipped is of no use, too
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._out.write_text(json.dumps(self.result()))

    def result(self) -> dict[str, object]:
        """What is written."""
        libraries = [name for name, module in sys.modules.items() if "/site-packages/" in _file(module)]
        built_in = [name for name in sys.modules if name.partition(".")[0] in sys.stdlib_module_names]
        return {"seconds": self._seconds, "failed": sorted(self._failed), "modules": libraries + built_in}


class Recorded(Timed):
    """The same, with the tests that ran each line of the package."""

    def __init__(self, out: Path, copy: Path) -> None:
        super().__init__(out)
        self._package = copy / "src" / "notqmail"
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, source=[str(self._package)], messages=False
        )

    def pytest_configure(self) -> None:
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        self._coverage.switch_context(item.nodeid)
        done = yield
        self._coverage.switch_context("")
        return done

    def result(self) -> dict[str, object]:
        self._coverage.stop()
        data = self._coverage.get_data()
        number = {test: place for place, test in enumerate(self._seconds)}  # names would be most of a gigabyte
        lines = {}
        for file in data.measured_files():
            by_line = data.contexts_by_lineno(file).items()
            lines[str(Path(file).relative_to(self._package.parent.parent))] = {
                line: [number.get(test, AT_IMPORT) for test in ran] for line, ran in by_line
            }
        return {**super().result(), "lines": lines}


def _file(module: object) -> str:
    return getattr(module, "__file__", None) or ""


class Tests:
    """What was measured."""

    def __init__(self, recorded: dict[str, object], timed: dict[str, object], texts: dict[str, str]) -> None:
        """`texts`: the sources by path, to see who imports whom."""
        assert isinstance(timed["seconds"], dict) and isinstance(recorded["lines"], dict)
        failed = {*recorded["failed"], *timed["failed"]}  # type: ignore[misc]
        self.seconds: dict[str, float] = {
            test: seconds for test, seconds in timed["seconds"].items() if test not in failed
        }
        self.left_out = sorted(failed)
        self._names = list(recorded["seconds"])  # type: ignore[call-overload]
        self._lines: dict[str, dict[str, list[int]]] = recorded["lines"]
        self._texts = texts

    def for_place(self, path: str, place: Place) -> list[list[str]]:
        """Those that run these lines: first those that import the module themselves, then the others; quickest first.

        What runs at import, or only in processes that a test starts, may matter to whoever uses the module, and to the
        tests that name it.
        """
        lines = self._lines.get(path, {})
        found = {test for line in range(place.first, place.last + 1) for test in lines.get(str(line), [])}
        if place.at_import or not found or AT_IMPORT in found:
            for user in [path, *importers(self._texts, path)]:
                found.update(*self._lines.get(user, {}).values())
            near = importers(self._texts, path)
            found |= {number for number, test in enumerate(self._names) if test.partition("::")[0] in near}
        names = {self._names[number] for number in found - {AT_IMPORT}} & self.seconds.keys()
        near = {test for test in names if test.partition("::")[0] in importers(self._texts, path)}
        stages = [sorted(some, key=lambda test: (self.seconds[test], test)) for some in (near, names - near)]
        return [stage for stage in stages if stage]


def importers(texts: dict[str, str], path: str) -> list[str]:
    """The files that import this module."""
    module = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
    package, _, name = module.rpartition(".")

    def imports(text: str) -> bool:
        return f"from {module} import" in text or any(
            line.strip().startswith(f"from {package} import") and name in line for line in text.splitlines()
        )

    return sorted(other for other, text in texts.items() if imports(text))


def tests_near(texts: dict[str, str], changed: list[str]) -> list[str]:
    """Of the tests that may be asked those that import one of these files, or a file that imports one.

    What tests share stands for the tests that use it.
    """
    near = {user for path in changed for user in [path, *importers(texts, path)]}
    near |= {user for path in near if path.startswith("src/") for user in importers(texts, path)}
    shared = {Path(path).stem for path in near if path.startswith("tests/") and "/test_" not in path}
    near |= {other for other, text in texts.items() for name in shared if f"\nfrom {name} import" in text}
    return sorted(path for path in near if "/test_" in path and path.startswith(tuple(ASKED)))


def measure(copy: Path, asked: list[str], *, lines: bool) -> dict[str, object]:
    """One of the two runs, in its own copy, of these files and directories of tests."""
    out = copy.parent / "measured.json"
    arguments = [*asked, "--continue-on-collection-errors"]
    run_pytest(copy, arguments, Recorded(out, copy) if lines else Timed(out), _LIMIT_S)
    result: dict[str, object] = json.loads(out.read_text())
    return result
