"""The processes of the home: who they are, how they are started again, and signals that reach only them.

A process is ours when its environment names the home; what it forked has that too. It is looked at again through a
descriptor of it before a signal goes out, so a number that was given to somebody else meanwhile is never hit.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from chaos_load import environment
from chaos_place import Place

RESTART_AFTER_S = 0.2
RESIDENTS = ("qmail-queue", "qmail-send", "qmail-lspawn", "worker", "qmail-rspawn", "qmail-clean", "qmail-smtpd")
_PR_SET_CHILD_SUBREAPER = 36


class Process:
    """One process of the home as it was when we looked."""

    __slots__ = ("command", "pid", "role", "state")

    def __init__(self, pid: int, role: str, command: str, state: str) -> None:
        self.pid, self.role, self.command, self.state = pid, role, command, state

    def __repr__(self) -> str:
        return f"{self.role} {self.pid} {self.state} {self.command!r}"


def _role(pid: int, command: str) -> str:
    if "notqmail.admin" in command:
        return "notqmail run"
    if "/bin/qmail-lspawn" in command:  # its children have its command line
        on_0 = os.readlink(f"/proc/{pid}/fd/0")
        return "qmail-lspawn" if on_0.startswith("pipe:") else "worker" if on_0 == "/dev/null" else "delivery"
    for name in ("qmail-send", "qmail-rspawn", "qmail-clean", "qmail-smtpd", "qmail-start"):
        if f"/bin/{name}" in command:
            return name
    if "/bin/qmail-queue --serve" in command:
        return "qmail-queue"
    return "one-shot" if "/bin/qmail-" in command else "program"


class Watch:
    """Starts the system and restarts it, `under` "services" (three of them) or "run" (`notqmail run`)."""

    def __init__(self, place: Place, port: int) -> None:
        self._place, self._port = place, port
        self._mark = f"QMAILHOME={place.home}".encode()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended_s: dict[str, float] = {}
        self.under = "services"
        self.keeping = False
        self.restarts: dict[str, int] = {}
        self.ends: dict[str, int] = {}  # "name code" of services that ended
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────

    def processes(self) -> list[Process]:
        """Everything that belongs to the home and lives (a zombie has no environment, and is not listed)."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and (process := self._look(int(name))) is not None:
                found.append(process)
        return found

    def _look(self, pid: int) -> Process | None:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if self._mark not in file.read().split(b"\0"):
                    return None
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
            with open(f"/proc/{pid}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0].decode()
            return Process(pid, _role(pid, command), command.strip(), state)
        except OSError:
            return None  # it ended while we looked, or is another user's

    def zombies(self) -> list[str]:
        """Dead children of the home's processes that nobody has waited for."""
        parents = {process.pid: process.role for process in self.processes()}
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if fields[0] == "Z" and int(fields[1]) in parents:
                    found.append(f"{name} of {parents[int(fields[1])]}")
        return found

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Of each resident: (open descriptors, resident kB), the largest where a role has several."""
        found: dict[str, tuple[int, int]] = {}
        for process in self.processes():
            if process.role in RESIDENTS:
                try:
                    descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except OSError:
                    continue
                kilobytes = int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0
                before = found.get(process.role, (0, 0))
                found[process.role] = (max(before[0], descriptors), max(before[1], kilobytes))
        return found

    # ── signals ─────────────────────────────────────────────────────────────────────────────────────────

    def signal(self, process: Process, number: int) -> bool:
        """Sends it to this very process; False when that is gone."""
        try:
            handle = os.pidfd_open(process.pid)
        except OSError:
            return False
        try:
            if self._look(process.pid) is None:
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def signal_role(self, role: str, number: int) -> int:
        """To every process of the role; returns how many it reached."""
        return sum(self.signal(process, number) for process in self.processes() if process.role == role)

    def continue_all(self) -> None:
        """CONT to everybody who is stopped."""
        for process in self.processes():
            if process.state == "T":
                self.signal(process, signal.SIGCONT)

    # ── starting, and starting again ────────────────────────────────────────────────────────────────────

    def _services(self) -> dict[str, list[str]]:
        directory, address = f"{self._place.home}/bin", f"127.0.0.1:{self._port}"
        if self.under == "run":
            return {"notqmail run": [sys.executable, "-m", "notqmail.admin", "run", "--home", str(self._place.home),
                                     "--smtp", address, "--no-first-message"]}  # fmt: skip
        rules = f"{self._place.home}/control/tcp.smtp.cdb"
        return {
            "qmail-queue": [f"{directory}/qmail-queue", "--serve"],
            "qmail-start": [f"{directory}/qmail-start", "./Maildir/"],
            "qmail-smtpd": [f"{directory}/qmail-smtpd", "--listen", address, "--rules", rules],
        }

    def _start(self, name: str, argv: list[str]) -> None:
        environ = environment(self._place)
        if self.under == "run":
            environ["PYTHONPATH"] = str(self._place.source)
        with self._place.log.open("ab") as log:
            log.write(f"chaos: starting {name} at {time.time():.3f}\n".encode())
            self._running[name] = subprocess.Popen(
                argv, env=environ, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def start(self, ready_wait_s: float = 30) -> None:
        """Starts all and keeps them; returns when SMTP answers. Raises TimeoutError."""
        for name, argv in self._services().items():
            self._start(name, argv)
            if name == "qmail-queue":
                await asyncio.sleep(0.3)
        self.keeping = True
        await self.wait_ready(ready_wait_s)

    async def wait_ready(self, wait_s: float) -> None:
        """Returns when SMTP answers and there is a qmail-send. Raises TimeoutError."""
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            roles = {process.role for process in self.processes()}
            if await self._answers() and {"qmail-queue", "qmail-send", "qmail-lspawn", "qmail-rspawn"} <= roles:
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"not up after {wait_s:.0f} s: {self.processes()}")

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self._port), 1)
        except (OSError, TimeoutError):
            return False
        try:
            return (await asyncio.wait_for(reader.readline(), 2))[:3] == b"220"
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    async def keep(self) -> None:
        """Starts again what ends, for as long as the task lives."""
        while True:
            self._bury_adopted()
            if self.keeping:
                for name, argv in self._services().items():
                    self._look_after(name, argv)
            await asyncio.sleep(0.05)

    def _look_after(self, name: str, argv: list[str]) -> None:
        process = self._running[name]
        if process.poll() is None:
            return
        now = time.monotonic()
        if name not in self._ended_s:
            self._ended_s[name] = now
            ending = f"{name} {process.returncode}"
            self.ends[ending] = self.ends.get(ending, 0) + 1
        if now - self._ended_s[name] >= RESTART_AFTER_S and _group_is_gone(process.pid):
            del self._ended_s[name]
            self.restarts[name] = self.restarts.get(name, 0) + 1
            self._start(name, argv)

    def _bury_adopted(self) -> None:
        """Waits for dead processes whose parents were killed: they are ours now."""
        own = {process.pid for process in self._running.values()}
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for pid in map(int, children):
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                command = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].partition(")")[0]
            except OSError:
                continue
            # What asyncio started has a waiter of its own: those are clients, which run under other names.
            if state == "Z" and pid not in own and command not in ("smtp-source", "qmail-inject"):
                os.waitpid(pid, os.WNOHANG)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────

    async def stop(self, patience_s: float = 40) -> list[str]:
        """TERM in order, SMTP first; returns what was wrong: who had to be killed, who was left behind."""
        self.keeping = False
        faults = []
        for name in reversed(list(self._services())):
            process = self._running[name]
            if process.poll() is None:
                process.terminate()
            end = time.monotonic() + patience_s
            while process.poll() is None and time.monotonic() < end:
                self._bury_adopted()
                await asyncio.sleep(0.02)
            if process.poll() is None:
                faults.append(f"{name} did not end after TERM in {patience_s:.0f} s: {self.processes()}")
                process.kill()
                process.wait()
            elif process.returncode != 0:
                faults.append(f"{name} ended with {process.returncode} after TERM")
        end = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < end:
            self._bury_adopted()
            await asyncio.sleep(0.05)
        faults += [f"left behind: {process}" for process in left]
        for process in left:
            self.signal(process, signal.SIGKILL)
        self._running.clear()
        self._ended_s.clear()
        return faults


def _group_is_gone(pid: int) -> bool:
    """Whether the whole group of that start is gone: two senders' deliverers at one message deliver it twice."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False
