"""A network of one's own: loopback addresses and port 25 for both sides alike, and a resolv.conf of its own.

The work runs in a forked child in new network and mount namespaces (unshare(2)); only JSON comes home.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import load

_NEW_NETWORK, _NEW_MOUNTS = 0x40000000, 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)


class NoNamespace(RuntimeError):
    """This machine does not let us; str() says why."""


def run(work: Callable[[], object], resolv_conf: Path) -> object:
    """What `work` returned (something JSON knows), in there. Raises load.Late with what it failed with, NoNamespace."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        code = 1
        try:
            answer: dict[str, object] = {}
            try:
                _enter(resolv_conf)
                answer["result"] = work()
            except (load.Late, RuntimeError, OSError) as error:
                answer["failed"] = f"{type(error).__name__}: {error}"
                answer["impossible"] = isinstance(error, NoNamespace)
            with os.fdopen(writer, "w") as pipe:
                json.dump(answer, pipe)
            code = 0
        except Exception:  # noqa: BLE001 - the outermost frame of a process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writer)
    text = ""
    try:
        with os.fdopen(reader) as pipe:
            text = pipe.read()
    finally:
        if not text:  # we are to stop
            os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    if not text:
        raise RuntimeError("the row's process ended without a word")
    answer = json.loads(text)
    if "failed" in answer:
        raise (NoNamespace if answer["impossible"] else load.Late)(answer["failed"])
    return answer["result"]


def _enter(resolv_conf: Path) -> None:
    if _LIBC.unshare(_NEW_NETWORK | _NEW_MOUNTS) != 0:
        raise NoNamespace(f"unshare: {os.strerror(ctypes.get_errno())}")
    _mount(None, "/", _MS_REC | _MS_PRIVATE)
    _mount(str(resolv_conf), os.path.realpath("/etc/resolv.conf"), _MS_BIND)
    ip = shutil.which("ip", path=load.PATH)
    if ip is None or subprocess.run([ip, "link", "set", "lo", "up"], check=False).returncode:
        raise NoNamespace("cannot bring up the loopback interface (program ip, Debian package iproute2)")


def _mount(source: str | None, target: str, flags: int) -> None:
    if _LIBC.mount(source.encode() if source else None, target.encode(), None, ctypes.c_ulong(flags), None) != 0:
        raise NoNamespace(f"mount on {target}: {os.strerror(ctypes.get_errno())}")
