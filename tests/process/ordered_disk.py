"""An ext4 that keeps order, in a file: what `make test` runs on may be anything."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from notqmail.unix.bulk_sync import ext4_keeps_order

_BYTES = 64 * 2**20
_DEADLINE_S = 60


@contextmanager
def ordered_disk(base: Path) -> Iterator[Path]:
    """A directory on it, below `base`; skips the test where none can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if mkfs is None:
        pytest.skip("mkfs.ext4 is not installed")
    image, place = base / "image", base / "m"
    with image.open("wb") as file:
        file.truncate(_BYTES)
    subprocess.run([mkfs, "-q", str(image)], check=True, timeout=_DEADLINE_S)
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(place)],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no loop device to mount: {mounted.stderr.strip()}")
    try:
        if not ext4_keeps_order(place.stat().st_dev):
            pytest.skip("this kernel does not say how its ext4 is mounted")
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=_DEADLINE_S)
