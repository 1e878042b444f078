"""Mounts and loop devices by system call, in namespaces of our own: when their first process is gone, so are they.

Nothing here has a fixed name or number, and nothing of it is seen by other processes of the machine.
"""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWPID, _CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
# <linux/loop.h>
_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
_AUTOCLEAR, _DIRECT_IO = 4, 16
_CONFIG_BYTES = 304  # struct loop_config: fd, block_size, struct loop_info64 (232 bytes), 8 reserved words
_FLAGS_AT = 8 + 52  # loop_info64.lo_flags
_ATTACH_TRIES = 50
_BUSY_S = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


class NotHere(Exception):
    """This machine cannot do it; the text says what is missing."""


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def die_with_parent() -> None:
    """In a child, right after its fork: nothing is left over when the parent is killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def apart(work: Callable[[], int]) -> int:
    """Runs `work` in a process whose mounts, children and ports are its own: with it they end, whatever happens.
    Its result is ours. Raises NotHere where this process may not do that.
    """
    if os.geteuid() != 0:
        raise NotHere("needs root: it mounts file systems")
    try:
        for device in ("/dev/fuse", "/dev/loop-control"):
            os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
        _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET), "unshare")
        _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount / private")
    except OSError as error:
        raise NotHere(f"needs FUSE, loop devices and the right to mount: {error}") from error
    child = os.fork()
    if child == 0:
        _be_first_process(work)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be_first_process(work: Callable[[], int]) -> None:
    """With number 1 of a namespace: the kernel kills all the others when this one ends. Never returns."""
    code = 1
    try:
        die_with_parent()
        _check(_libc.mount(b"proc", b"/proc", b"proc", 0, None), "mount /proc")
        with socket.socket() as any_socket:  # a loopback of our own: no port there is anybody else's
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        code = work()
    except BaseException:  # noqa: BLE001 - the outermost frame of a process: said
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def mount(device: str, place: Path, kind: str, options: str = "") -> None:
    """mount(2), no devices, no set-uid programs. Raises OSError, NotHere when the kernel does not know `kind`."""
    result = _libc.mount(device.encode(), bytes(place), kind.encode(), _MS_NOSUID | _MS_NODEV, options.encode())
    try:
        _check(result, f"mount {kind}")
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise NotHere(f"needs a kernel with {kind}") from error
        raise


def unmount(place: Path) -> None:
    """umount(2); a process that has just ended may hold it for a moment. Raises OSError after some seconds."""
    end_s = time.monotonic() + _BUSY_S
    while _libc.umount2(bytes(place), 0) != 0:
        number = ctypes.get_errno()
        if number != errno.EBUSY or time.monotonic() > end_s:
            raise OSError(number, f"umount: {os.strerror(number)}")
        time.sleep(0.002)


def detach(place: Path) -> None:
    """Takes it out of sight whoever uses it; for the way out only."""
    _libc.umount2(bytes(place), _MNT_DETACH)


@contextmanager
def loop_device(image: int, *, direct: bool) -> Iterator[str]:
    """A loop device on the open file `image`. It is gone when this block has ended and nothing on it is mounted.

    `direct`: requests go to the file one by one as they come, past the page cache. Raises OSError.
    """
    flags = _AUTOCLEAR | (_DIRECT_IO if direct else 0)
    config = bytearray(_CONFIG_BYTES)
    struct.pack_into("=II", config, 0, image, 512)
    struct.pack_into("=I", config, _FLAGS_AT, flags)
    for attempt in range(_ATTACH_TRIES):
        with open("/dev/loop-control", "rb") as control:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
        name = f"/dev/loop{number}"
        device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, bytes(config))
            break
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY or attempt == _ATTACH_TRIES - 1:
                raise
    try:
        yield name
    finally:
        os.close(device)
