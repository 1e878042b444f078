"""qmail-start(8) with few descriptors."""

import resource
from pathlib import Path

from queue_home import LOGIN, Home, System, until


def test_it_starts_with_few_descriptors(short_path: Path) -> None:
    home, log = Home(short_path / "h"), short_path / "log"
    log.touch()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        system = System(home, log)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert home.queue(b"m\n", b"Fs@me.test\0T" + LOGIN.encode() + b"@me.test\0\0") == 0
    until(home.new_mail, system.log)
    assert system.end() == 0
