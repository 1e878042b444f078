"""The disk both sides stand on: a directory, or a fresh ext4 with a journal in a file of it.

Why the second: on an ext4 *without* a journal (some virtual machines) the kernel looks at every inode deleted in
the last minute before it makes a new file, 0.1 to 0.7 ms a file here. That measures how many short-lived files a
mailer makes, and nothing a site would see: file systems that keep mail have a journal.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_IMAGE_BYTES = 2 * 1024**3
_INODE_BYTES = 256
_OTHER_FILES = 100_000  # besides the many: everything else of two homes
_LEAVE_BYTES = 5 * 1024**3  # of the machine's own disk


def mounted(directory: Path) -> tuple[str, str]:
    """(device, type) of the file system that holds `directory`."""
    best, found = "", ("?", "unknown file system")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, place, kind = line.split()[:3]
        if directory.resolve().is_relative_to(place) and len(place) >= len(best):
            best, found = place, (device, kind)
    return found


def describe(directory: Path) -> str:
    """The file system's type, and what a reader must know about it."""
    device, kind = mounted(directory)
    if kind == "ext4" and not _has_journal(device):
        kind += " without a journal (making a file after deleting many is slow there)"
    elif device.startswith("/dev/loop"):
        kind += " with a journal, in an image file"
    return kind


def _has_journal(device: str) -> bool:
    """/proc/fs/jbd2 has an entry for each journal in use, named after the device."""
    name = os.path.basename(os.path.realpath(device))
    try:
        return any(entry.startswith(name + "-") for entry in os.listdir("/proc/fs/jbd2"))
    except OSError:
        return False  # no jbd2 at all: no journal


@contextmanager
def place(directory: Path, choice: str) -> Iterator[Path]:
    """A fresh directory on the chosen disk, removed at the end.

    `choice`: "here" is `directory`'s own file system, "image" a new one, "auto" an image only where it is needed.
    Raises RuntimeError when an image is wanted and cannot be made.
    """
    device, kind = mounted(directory)
    base = Path(tempfile.mkdtemp(prefix="notqmail-bench-", dir=directory))
    base.chmod(0o755)  # Postfix's daemons are other users
    try:
        with ExitStack() as stack:
            chosen = base
            if choice == "image" or (choice == "auto" and kind == "ext4" and not _has_journal(device)):
                try:
                    chosen = stack.enter_context(_image(base))
                except RuntimeError as error:
                    if choice == "image":
                        raise
                    print(f"no disk image ({error}): measuring on {describe(directory)}", file=sys.stderr)
            yield chosen
    finally:
        if not os.path.ismount(base / "disk"):  # still busy: its error says so, and names the place to look at
            shutil.rmtree(base)


@contextmanager
def _image(base: Path) -> Iterator[Path]:
    image, mount_point = base / "image", base / "disk"
    mount_point.mkdir()
    if shutil.disk_usage(base).free < 2 * _IMAGE_BYTES:
        raise RuntimeError(f"too little room in {base}")
    with image.open("wb") as file:  # really written: else the first use of each block would cost more than later ones
        for _ in range(_IMAGE_BYTES // 2**20):
            file.write(bytes(2**20))
        os.fsync(file.fileno())
    _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    _run("mount", "-o", "loop", str(image), str(mount_point))
    try:
        yield mount_point
    finally:
        _unmount(mount_point)


class Room:
    """A place for very many files. `forgets` says whether what was read of it can be made to leave memory."""

    def __init__(self, directory: Path, image: Path | None) -> None:
        self.directory, self._image = directory, image

    @property
    def forgets(self) -> bool:
        """Whether `forget_what_was_read` does anything."""
        return self._image is not None

    def forget_what_was_read(self) -> None:
        """Nothing may be open there. Only this file system's memory is dropped, not the machine's."""
        if self._image is None:
            return
        _unmount(self.directory)
        with self._image.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        _run("mount", "-o", "loop", str(self._image), str(self.directory))


@contextmanager
def roomy(directory: Path, more_bytes: int, files: int, *, small: bool) -> Iterator[Room]:
    """A sparse journaled ext4 with room for so many small files, in a file under `directory`, removed at the end.

    `small`: a plain directory there will do. Raises RuntimeError when there is too little room.
    """
    base = Path(tempfile.mkdtemp(prefix="notqmail-bench-", dir=directory))
    base.chmod(0o755)
    image, mount_point = base / "image", base / "disk"
    mount_point.mkdir()
    try:
        if small:
            yield Room(mount_point, None)
            return
        size = more_bytes + _IMAGE_BYTES + (files + _OTHER_FILES) * _INODE_BYTES
        if shutil.disk_usage(base).free < size + _LEAVE_BYTES:
            raise RuntimeError(f"too little room in {base}: {size >> 30} GB are needed")
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-N", str(files + _OTHER_FILES), str(image))
        _run("mount", "-o", "loop", str(image), str(mount_point))
        try:
            yield Room(mount_point, image)
        finally:
            _unmount(mount_point)
    finally:
        if not os.path.ismount(mount_point):
            shutil.rmtree(base)


def _unmount(mount_point: Path, deadline_s: float = 10.0) -> None:
    """A process that was just stopped may hold the disk for a moment longer. Raises RuntimeError."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            _run("umount", str(mount_point))
            return
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise RuntimeError(f"{program} is not installed")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr.strip()}")
