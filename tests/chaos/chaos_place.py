"""Where a chaos run lives: a fresh home, and, for root, a small ext4 of its own under queue and mail.

The small disk can be filled and made read-only while everything runs. `queue/lock` lies beside it, not on it: what
is open there for writing would forbid the change to read-only, which is the machine's rule and not what we test.
"""

import ctypes
import errno
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_libc = ctypes.CDLL(None, use_errno=True)
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MNT_DETACH = 1, 32, 4096, 2
_DISK_MB = 400
_MAILDIRS = ("md", "end", "ret", "bulk")

_DELIVER = """#!/bin/sh
# A delivery program of a user's: it fails now and then while times are rough, and keeps whole messages only.
test -e {base}/rough && test "$(od -An -N1 -tu1 /dev/urandom)" -lt 40 && exit 111
t=$(mktemp {mail}/prog/tmp/XXXXXXXXXX) || exit 111
{{ printf '%s' "$RPLINE$DTLINE" && cat; }} >"$t" || {{ rm -f "$t"; exit 111; }}
mv "$t" {mail}/prog/new/ || exit 111
"""


class NoDisk(Exception):
    """The small disk cannot be made here; str() says why."""


class Place:
    """Directories, controls and .qmail files of one run; `disk_reason` says why there is no small disk, or is empty."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="nqc-", dir="/tmp"))
        self.base.chmod(0o755)
        self.home, self.mail, self.temporary = self.base / "h", self.base / "disk/mail", self.base / "tmp"
        self.source = self.base / "src"  # installed: nobody's editing reaches it while it runs
        self.log, self.user = self.base / "log", getpass.getuser()
        self._mounts: list[Path] = []
        self.disk_reason = ""
        self.temporary.mkdir()

    def make(self, *, with_disk: bool) -> None:
        """`notqmail init`, the small disk under it where that can be, controls and .qmail files."""
        disk, queue = self.base / "disk", self.home / "queue"
        disk.mkdir()
        shutil.copytree(REPOSITORY / "src", self.source, ignore=shutil.ignore_patterns("__pycache__"))
        environ = {**os.environ, "PYTHONPATH": str(self.source)}
        init = [sys.executable, "-m", "notqmail.admin", "init", str(self.home)]
        subprocess.run(init, check=True, capture_output=True, timeout=60, env=environ)
        try:
            self._mount_disk(disk, queue, wanted=with_disk)
        except NoDisk as reason:
            self.disk_reason = str(reason)
        for name in (*_MAILDIRS, "prog"):
            for part in ("tmp", "new", "cur"):
                (self.mail / name / part).mkdir(parents=True, mode=0o700)
        self._dot_qmail()

    def _mount_disk(self, disk: Path, queue: Path, *, wanted: bool) -> None:
        if not wanted:
            raise NoDisk("not wanted")
        if os.geteuid() != 0:
            raise NoDisk("not root")
        image = self.base / "image"
        with image.open("wb") as file:
            file.truncate(_DISK_MB << 20)
        try:
            _run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "60000", str(image))
            _run("mount", "-o", "loop,noatime", str(image), str(disk))
        except (OSError, subprocess.SubprocessError) as error:
            raise NoDisk(f"no loop-mounted ext4: {error}") from error
        self._mounts.append(disk)
        lock = self.base / "lock"
        subprocess.run(["cp", "-a", str(queue), str(disk / "queue")], check=True, timeout=30)
        (queue / "lock").rename(lock)
        _run("mount", "--bind", str(disk / "queue"), str(queue))
        self._mounts.append(queue)
        _run("mount", "--bind", str(lock), str(queue / "lock"))
        self._mounts.append(queue / "lock")

    def _dot_qmail(self) -> None:
        def dot(name: str, line: str) -> None:
            (self.home / f".qmail-{name}").write_text(line + "\n")

        dot("md-default", f"{self.mail}/md/")
        dot("end", f"{self.mail}/end/")
        dot("ret-default", f"{self.mail}/ret/")
        dot("bulk-default", f"{self.mail}/bulk/")
        dot("mbox-default", f"{self.mail}/mbox")
        dot("fwd-default", f"&{self.user}-end@localhost")
        program = self.base / "deliver"
        program.write_text(_DELIVER.format(base=self.base, mail=self.mail))
        program.chmod(0o755)
        dot("prog-default", f"|{program}")

    def control(self, name: str, content: str) -> None:
        """Writes a control file."""
        (self.home / "control" / name).write_text(content)

    def add_control(self, name: str, line: str) -> None:
        """One more line for one."""
        with (self.home / "control" / name).open("a") as file:
            file.write(line + "\n")

    def rough(self, on: bool) -> None:
        """Whether delivery programs fail now and then."""
        (self.base / "rough").touch() if on else (self.base / "rough").unlink(missing_ok=True)

    # ── the disk ────────────────────────────────────────────────────────────────────────────────────────

    def fill(self) -> None:
        """No block is left on the small disk."""
        descriptor = os.open(self.base / "disk/filler", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for size in (64 << 20, 1 << 20, 4096):
                while True:
                    try:
                        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        break
        finally:
            os.close(descriptor)

    def unfill(self) -> None:
        """There is room again."""
        (self.base / "disk/filler").unlink(missing_ok=True)

    def read_only(self, on: bool) -> bool:
        """Changes the queue's mount; False when somebody was writing at each of many moments."""
        flags = _MS_REMOUNT | _MS_BIND | (_MS_RDONLY if on else 0)
        for _ in range(2000):
            if _libc.mount(None, os.fsencode(self.home / "queue"), None, flags, None) == 0:
                return True
            if ctypes.get_errno() != errno.EBUSY:
                raise OSError(ctypes.get_errno(), "remount")
            time.sleep(0.0003)
        return False

    def close(self, *, keep: bool) -> None:
        """Unmounts; removes everything unless it is to be looked at. Kept, the mail and the queue are copied out."""
        if keep and self._mounts:
            kept = self.base / "kept"
            kept.mkdir()
            shutil.copytree(self.mail, kept / "mail")
            shutil.copytree(self.home / "queue", kept / "queue", ignore=lambda *_: ["trigger"])
        for place in reversed(self._mounts):
            if _libc.umount2(os.fsencode(place), 0) != 0:
                _libc.umount2(os.fsencode(place), _MNT_DETACH)
        if not keep:
            shutil.rmtree(self.base)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60,
                   env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"})  # fmt: skip
