"""Running chosen tests in a forked child of a process that has pytest and the libraries loaded already.

A start of Python, pytest and the libraries costs more than the tests that notice a mutant. Nothing of notqmail is
loaded in the parent, so each child imports it from its own copy of the repository, changed as that is.
"""

import os
import resource
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import hypothesis
import pytest

MEMORY_BYTES = 2 << 30  # a mutant may want all there is
FILE_BYTES = 1 << 30
_POLL_S = 0.002

# Only ours asks: the examples are the same for each mutant, and how long one takes depends on the other processes.
hypothesis.settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)

OPTIONS = [
    "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile=mutants", "--tb=no", "--no-header",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # the plugins are loaded already, that is the point
]  # fmt: skip


PASSED = "all passed"


class Chosen:
    """A pytest plugin: keeps the chosen tests, in the order given; says at the end which failed first, or PASSED.

    pytest's exit code alone is not enough: out of memory, it may lose a failure.
    """

    def __init__(self, tests: list[str], said: Path) -> None:
        self._rank = {test: place for place, test in enumerate(tests)}
        self._said = said
        self._failed = ""
        self._passed = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed = self._failed or report.nodeid
        elif report.when == "call":
            self._passed += 1

    def pytest_sessionfinish(self) -> None:
        """Not earlier: a test may have made its disk full."""
        if self._failed:
            self._said.write_text(self._failed)
        elif self._passed == len(self._rank):
            self._said.write_text(PASSED)


def preload(names: list[str]) -> None:
    """Loads the libraries that the tests use; what cannot be loaded by itself comes with the tests."""
    for name in names:
        try:
            import_module(name)
        except ImportError:
            pass


def run_pytest(copy: Path, arguments: list[str], plugin: object, limit_s: float) -> int | None:
    """pytest's exit code (negative: killed by that signal) for tests of this copy; None when it took too long."""
    child = os.fork()
    if child == 0:
        try:
            _become_quiet(copy)
            code = pytest.main([*OPTIONS, f"--basetemp={copy.parent / 'tmp'}", *arguments], plugins=[plugin])
            os._exit(int(code))
        finally:
            os._exit(99)
    until_s = time.monotonic() + limit_s
    try:
        return _ended(child, until_s)
    finally:
        try:
            os.killpg(child, signal.SIGKILL)  # itself when it hangs, and whatever its tests left
        except ProcessLookupError:
            pass


def _ended(child: int, until_s: float) -> int | None:
    while time.monotonic() < until_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_POLL_S)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _become_quiet(copy: Path) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(copy)
    with open(os.devnull, "r+b") as nothing:
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
    os.environ["PYTHONPATH"] = str(copy / "src")
    sys.path.insert(0, str(copy / "src"))
