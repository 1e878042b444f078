"""What holds for every test: no network but loopback, and a test that cannot run here says why it was skipped.

Warnings are errors and each test has a deadline: pyproject.toml says so.
"""

import gc
import ipaddress
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from free_ports import free_port

REPOSITORY = Path(__file__).parent.parent
# Programs that tests start find the package as the tests do.
os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
# Debian keeps Postfix's tools in /usr/sbin, which a user's PATH lacks.
os.environ["PATH"] = os.pathsep.join(
    dict.fromkeys([*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/sbin"])
)
# What our programs would read of whoever runs the tests: zsh has a HOST, WSL a NAME, a mail user a MAILNAME.
_READ_BY_PROGRAMS = re.compile(
    "(QMAIL|TCP|MAIL|QQF_|SPP|EXT|HOST|LC_|LANG).*|NAME|LOCAL|DEFAULT|SENDER|NEWSENDER|RECIPIENT|REMOTE|PROTO|RELAYCLIENT"
    "|DATABYTES|RCPTCHECK|QHPSI|QLOCAL|QREMOTE|NUMRCPTS|MSGSIZE|DNSCACHEIP|DTLINE|RPLINE|UFLINE"
)
for _name in filter(_READ_BY_PROGRAMS.fullmatch, list(os.environ)):
    del os.environ[_name]
os.environ["USER"] = os.environ["LOGNAME"] = pwd.getpwuid(os.geteuid()).pw_name  # after su they may be another's
os.environ["LC_ALL"] = "C.UTF-8"  # others' programs complain in English
os.umask(0o022)  # a test about the umask sets it
# The same examples each time, however slow the machine is at the moment: new ones are `make fuzz`'s work.
hypothesis.settings.register_profile(
    "suite", derandomize=True, database=None, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs root, or a program of a Debian package, where there is none."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    for marker in item.iter_markers("debian"):
        for program in marker.args:
            if not shutil.which(program):
                pytest.skip(f"needs {program} in PATH or /usr/sbin (`make test` installs it)")


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0]).partition("%")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


@pytest.fixture(autouse=True)
def no_network_but_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for another machine fails with a sentence, not with a time-out."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        assert _is_local(address), f"a test tried to connect to {address!r}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _descriptors() -> set[tuple[str, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            pass  # the one that listed them
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            found.update(Path(f"/proc/self/task/{thread}/children").read_text().split())
        except FileNotFoundError:
            pass  # the thread has ended, or this kernel does not tell
    return found


def _left_over(before: tuple[set[tuple[str, str]], set[str]]) -> list[str]:
    descriptors = [f"descriptor {number}: {what}" for number, what in sorted(_descriptors() - before[0])]
    return descriptors + [f"child {pid}" for pid in sorted(_children() - before[1])]


_WATCHED = ("unit", "property", "crash", "process", "power")


@pytest.fixture(autouse=True)
def nothing_left_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that leaves a descriptor, a child or a temporary directory behind fails, not the one after it."""
    if request.path.parent.name not in _WATCHED or not os.path.isdir("/proc/self/fd"):
        yield
        return
    made: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def noted(*arguments: object, **named: object) -> str:
        made.append(mkdtemp(*arguments, **named))  # type: ignore[call-overload]
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    before = _descriptors(), _children()
    yield
    left = _left_over(before)
    if left:
        gc.collect()  # what only waits for its destructor is no leak
        left = _left_over(before)
    left += [f"directory {path}" for path in made if os.path.lexists(path)]
    assert left == [], "the test left these behind"


@pytest.fixture(name="free_port")
def a_free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses, and nobody takes before the test does."""
    return free_port()


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a short name: a Unix socket's path may have 107 bytes, pytest's own take most of them."""
    path = Path(tempfile.mkdtemp(prefix="nq"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def notqmail() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs the `notqmail` command with arguments; returns the finished process, text captured."""

    def run(*arguments: object, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "notqmail.admin", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run
