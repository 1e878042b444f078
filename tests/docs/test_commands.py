"""The commands that documents tell people to type, typed: every ```sh block of a document, in order, as one script.

Blocks that are only to be looked at are ```console or ```text. A system runs beside it, as the document says it should.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60.0


@pytest.fixture
def place(short_path: Path, free_port: int) -> Iterator[Path]:
    """A directory with a running home `var`, as after `make run`."""
    log_path = short_path / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "notqmail.admin", "run", "--home", "var", "--smtp", f"127.0.0.1:{free_port}"],
            cwd=short_path, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until(lambda: "running; Ctrl-C stops it" in log_path.read_text(), log_path.read_text)
        yield short_path
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)


def until(reached: Callable[[], bool], shown: Callable[[], str]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end_s, shown()
        time.sleep(0.02)  # another process's doing: there is nothing to wait on


def type_all(document: str, place: Path, port: int) -> None:
    """Runs the document's commands; the first that fails fails the test."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / document).read_text(), re.DOTALL)
    assert blocks
    script = "\n".join(blocks).replace("127.0.0.1:2525", f"127.0.0.1:{port}")
    # A person looks again when nothing is there yet.
    script = re.sub(r"(?m)^grep .*$", r"until \g<0>; do sleep 0.05; done", script)
    script = script.replace(".venv/bin/notqmail", f"{sys.executable} -m notqmail.admin")
    # A shell need not set these (su, cron, containers), and then qmail-inject knows no sender.
    environment = {name: value for name, value in os.environ.items() if name not in ("USER", "LOGNAME")}
    done = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", script],
        cwd=place, env=environment, capture_output=True, text=True,
        timeout=4 * DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + (place / "log").read_text()


def subjects(maildir: Path) -> list[str]:
    files = list((maildir / "new").iterdir())
    return sorted(line for file in files for line in re.findall(r"(?m)^Subject: (.*)$", file.read_text())[:1])


@pytest.mark.debian("swaks")
def test_readme(place: Path, free_port: int) -> None:
    type_all("README.md", place, free_port)
    text = (place / "log").read_text
    until(lambda: "nothing is lost" in text(), text)
    assert {"hello", "your mail system works"} <= set(subjects(place / "var" / "Maildir"))
    assert (place / "another-home" / "control" / "me").read_text() == "mail.example.org\n"
    assert re.search(r"^local|mail\.test$", (place / "var" / "control" / "locals").read_text())


def test_tutorial(place: Path, free_port: int) -> None:
    maildir = place / "var" / "Maildir"
    type_all("docs/tutorial/first-mail.md", place, free_port)
    wanted = {"my second one", "a note", "failure notice", "while you were out"}
    until(lambda: wanted <= set(subjects(maildir)), (place / "log").read_text)
    until((place / "var" / "notes-count").exists, (place / "log").read_text)


@pytest.mark.debian("tcprules")
def test_relaying(place: Path, free_port: int) -> None:
    type_all("docs/how-to/relay.md", place, free_port)
    assert shutil.which("tcprules")
    assert (place / "var" / "control" / "tcp.smtp.cdb").stat().st_size > 2048
    assert "example.com" in (place / "var" / "control" / "rcpthosts").read_text()
    assert os.access(place / "var" / "control" / "smtproutes", os.R_OK)


@pytest.mark.debian("tcprules")
def test_filtering(place: Path, free_port: int) -> None:
    maildir = place / "var" / "Maildir"
    type_all("docs/how-to/filter-mail.md", place, free_port)
    until(lambda: "harmless" in subjects(maildir), (place / "log").read_text)
    assert "odd" not in subjects(maildir)
    program = place / "qmail-remote"
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o755)
    sent = subprocess.run(
        [place / "var/bin/qmail-rfilter", "h", "joe@example.org", "r@h"], input=b"Subject: x\n\nhello\n",
        env={**os.environ, "QREMOTE": str(program)}, stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert sent.stdout == b"Subject: x\n\nhello\n\n-- Sent by joe at example.org.\n"
