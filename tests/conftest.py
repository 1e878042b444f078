"""What holds for every test: no network but loopback, and a test that cannot run here says why it was skipped.

Warnings are errors and each test has a deadline: pyproject.toml says so.
"""

import ipaddress
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
# Programs that tests start find the package as the tests do.
os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
# Debian keeps Postfix's tools in /usr/sbin, which a user's PATH lacks.
os.environ["PATH"] = os.pathsep.join(
    dict.fromkeys([*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/sbin"])
)


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


@pytest.fixture
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses. Between here and its use somebody may take it; nobody does."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a short name: a Unix socket's path may have 107 bytes, pytest's own take most of them."""
    import tempfile

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
