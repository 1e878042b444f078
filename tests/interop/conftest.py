"""Fixtures for tests with real foreign programs: our system, a sink, a private Postfix."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from interop_peers import Receiver, Sink
from interop_system import System


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A temporary directory with a short path (a Unix socket's has 107 bytes) that other users may enter."""
    path = Path(tempfile.mkdtemp(prefix="nq-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def system(short_directory: Path) -> Iterator[System]:
    """Our system in a fresh home, not started: the test sets controls, then calls start()."""
    made = System(short_directory)
    yield made
    made.stop()


@pytest.fixture
def sink(short_directory: Path) -> Iterator[Sink]:
    """A server that accepts everything, for remote deliveries."""
    made = Sink(short_directory / "sink")
    yield made
    made.stop()


@pytest.fixture
def postfix_server(short_directory: Path) -> Iterator[Receiver]:
    """A private Postfix, running."""
    if lacking := Receiver.missing():
        pytest.skip("; ".join(lacking))
    made = Receiver(short_directory / "postfix")
    try:
        made.start()
        yield made
    finally:
        made.stop()
