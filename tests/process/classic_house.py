"""A classic system as root with qmail's accounts, for tests: made, started, spoken to, stopped, cleared away.

Accounts of the machine are never made or changed: everything runs in a mount namespace of its own in which copies of
/etc/passwd and /etc/group, with the accounts added, lie over the real ones.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import smtplib
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import notqmail
from free_ports import free_port

HOST = "mail.test"
DEADLINE_S = 60.0
GROUPS = ("nofiles", "qmail", "keys", "alice", "bob")
USERS = {
    "alias": "nofiles", "qmaild": "nofiles", "qmaill": "nofiles", "qmailp": "nofiles",
    "qmailq": "qmail", "qmailr": "qmail", "qmails": "qmail", "alice": "alice", "bob": "bob",
}  # fmt: skip
ROLES = {  # command line -> user, group, all groups
    "qmail-lspawn": ("root", "qmail", {"qmail"}),
    "qmail-rspawn": ("qmailr", "qmail", {"qmail", "keys"}),
    "qmail-clean": ("qmailq", "qmail", {"qmail"}),
    "qmail-queue": ("qmailq", "qmail", {"qmail"}),
    "qmail-send": ("qmails", "qmail", {"qmail"}),
    "qmail-smtpd": ("qmaild", "nofiles", {"nofiles"}),
    "tee": ("qmaill", "nofiles", {"nofiles"}),
}


# ── what the machine must give ──────────────────────────────────────────────────────────────────────────────────────


def everybody_reaches(path: str) -> bool:
    """Whether any account may enter each directory above `path` and read what it names."""
    real = Path(os.path.realpath(path))
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in real.parents) and bool(
        real.stat().st_mode & stat.S_IROTH
    )


def open_directory() -> Path:
    """A new directory with a short name that every account can enter and run programs in."""
    for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):
        if everybody_reaches(parent) and not os.statvfs(parent).f_flag & os.ST_NOEXEC:
            path = Path(tempfile.mkdtemp(prefix="nqc", dir=parent))
            path.chmod(0o755)
            return path
    pytest.skip("needs a temporary directory that other accounts can enter and run programs in")


def interpreter() -> str:
    """A Python that other accounts can run: ours may live in root's home."""
    for name in (sys.executable, "/usr/bin/python3.11", "/usr/bin/python3", "/usr/local/bin/python3"):
        good = "import sys; sys.exit(sys.version_info < (3, 11))"
        if os.path.exists(name) and everybody_reaches(name) and subprocess.run([name, "-c", good]).returncode == 0:
            return os.path.realpath(name)
    pytest.skip("needs a Python 3.11 or newer that other accounts can run; this one is in a closed directory")


class Machine:
    """A mount namespace with the accounts. `uid` and `gid` map their names to numbers.

    `apart` names what more it has of its own ("pid", "net"); `mounts` are shell commands that arrange its files.
    """

    def __init__(self, base: Path, apart: tuple[str, ...] = (), mounts: str = "true") -> None:
        for program in ("unshare", "nsenter", "setpriv"):
            if not shutil.which(program):
                pytest.skip(f"needs {program} (util-linux)")
        self._base = base
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        free = [number for number in range(54_000, 64_000) if number not in taken]
        self.gid = dict(zip(GROUPS, free, strict=False)) | {"root": 0}
        self.uid = dict(zip(USERS, free, strict=False)) | {"root": 0}
        self.group_name = {number: name for name, number in self.gid.items()}
        self.user_name = {number: name for name, number in self.uid.items()}
        passwd = self._over("/etc/passwd", [self._account(name, group) for name, group in USERS.items()])
        group = self._over("/etc/group", [f"{name}:x:{self.gid[name]}:{self._members(name)}" for name in GROUPS])
        resolver = base / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\n")  # whatever a test sends, no name is asked for outside
        resolver.chmod(0o644)
        # As process 1 the shell stays, to pick up what others left.
        hold = "{ cat; exit; }" if "pid" in apart else "exec cat"
        script = (
            'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && mount --bind "$3" /etc/resolv.conf && '
            f"{mounts} && echo ready && {hold}"
        )
        more = [f"--{name}" for name in apart] + (["--fork", "--mount-proc"] if "pid" in apart else [])
        self._apart = apart
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", *more, "/bin/sh", "-c", script, "sh", passwd, group,
             resolver],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        if said != b"ready\n":
            self.close()
            pytest.skip(f"needs mount namespaces (unshare --mount): {said.decode().strip()}")

    def _account(self, name: str, group: str) -> str:
        home = self._base / (f"people/{name}" if name in ("alice", "bob") else f"q/{name}" if name == "alias" else "q")
        return f"{name}:x:{self.uid[name]}:{self.gid[group]}::{home}:/bin/sh"

    def _members(self, group: str) -> str:
        return "qmailr" if group == "keys" else ""

    def _over(self, path: str, added: list[str]) -> Path:
        names = {line.split(":")[0] for line in added}
        kept = [line for line in Path(path).read_text().splitlines() if line.split(":")[0] not in names]
        copy = self._base / Path(path).name
        copy.write_text("".join(f"{line}\n" for line in [*kept, *added]))
        copy.chmod(0o644)
        return copy

    def argv(self, command: list[str], user: str = "root") -> list[str]:
        """`command` as run inside, as that user; the process number stays the one that was started."""
        spaces = f"/proc/{self.holder}/ns"
        enter = ["nsenter", f"--mount={spaces}/mnt"]
        for name in self._apart:
            enter.append(f"--{name}={spaces}/{'pid_for_children' if name == 'pid' else name}")
        if user != "root":
            gid = self.gid[USERS[user]]
            enter += ["setpriv", f"--reuid={self.uid[user]}", f"--regid={gid}", f"--groups={gid}"]
        return [*enter, *command]

    @property
    def holder(self) -> int:
        """The process that keeps the namespaces."""
        return self._holder.pid

    def close(self) -> None:
        """The namespace ends with its last process."""
        self._holder.communicate(timeout=DEADLINE_S)


# ── the system under test ───────────────────────────────────────────────────────────────────────────────────────────


def until(reached: Callable[[], object], what: Callable[[], str]) -> None:
    """Returns as soon as `reached()` is true; fails with `what()`."""
    end_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end_s, f"not in time\n{what()}"
        time.sleep(0.02)


class System:
    """A classic home and its services."""

    def __init__(self, base: Path, machine: Machine | None = None) -> None:
        self.base, self.home, self.log_path = base, base / "q", base / "log" / "current"
        self.machine = machine or Machine(base)
        self.environ = {"PATH": f"{self.home}/bin:/usr/local/bin:/usr/bin:/bin:/sbin"}
        self.tracer: Callable[[str], list[str]] = lambda user: []  # under what a user's programs run: strace, say
        self.confined: Callable[[list[str]], list[str]] | None = None  # a service's command, as something confines it
        self._services: list[subprocess.Popen[bytes]] = []
        package = base / "lib" / "notqmail"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(os.path.dirname(os.path.realpath(notqmail.__file__)), package, ignore=ignored)
        self._copy_libraries(base / "lib" / "site-packages")
        for path in (base / "lib").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._python = interpreter()
        self.notqmail("init", str(self.home), "--accounts", "--host", HOST)
        self._make_people()

    def _copy_libraries(self, directory: Path) -> None:
        """What our own interpreter has of the libraries, where the accounts can read it."""
        directory.mkdir()
        for name in ("dns", "uvloop"):
            found = importlib.util.find_spec(name)
            if found is not None and found.origin is not None:
                shutil.copytree(os.path.dirname(found.origin), directory / name, ignore=shutil.ignore_patterns("*.pyx"))

    def _make_people(self) -> None:
        for name in ("alice", "bob"):
            for part in ("", "Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
                path = self.base / "people" / name / part
                path.mkdir(parents=True)
                path.chmod(0o700)
                os.chown(path, self.machine.uid[name], self.machine.gid[name])
        (self.base / "people").chmod(0o755)
        self.log_path.parent.mkdir(mode=0o755)
        os.chown(self.log_path.parent, self.machine.uid["qmaill"], self.machine.gid["nofiles"])

    def person(self, name: str) -> Path:
        """Somebody's home directory."""
        return self.base / "people" / name

    def write(self, path: Path, text: str, owner: str, mode: int = 0o644) -> None:
        """A file of somebody's."""
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, self.machine.uid[owner], self.machine.gid[USERS.get(owner, "root")])

    def run(
        self, command: list[str], user: str = "root", data: bytes = b"", **environ: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """Runs something inside to its end."""
        return subprocess.run(
            self.machine.argv(command, user), input=data, capture_output=True, timeout=DEADLINE_S, cwd="/",
            env=self.environ | environ, check=False,
        )  # fmt: skip

    def notqmail(self, *arguments: str, code: int = 0) -> str:
        """The `notqmail` command as root, which must end with `code`; returns what it printed."""
        command = [self._python, "-m", "notqmail.admin", *arguments]
        done = self.run(command, PYTHONPATH=f"{self.base}/lib:{self.base}/lib/site-packages")
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.decode()

    def inject(self, user: str, message: str) -> None:
        """A message through qmail-inject, as that user."""
        done = self.run(
            [*self.tracer(user), f"{self.home}/bin/qmail-inject"], user, message.encode(), USER=user, QMAILHOST=HOST
        )
        assert (done.returncode, done.stderr) == (0, b"")

    def start(self, *, own_writer: bool = True) -> None:
        """All three services, as packaging/ has them; without `own_writer` qmail-queue is left to qmail-start."""
        if own_writer:
            self.service(["qmail-queue", "--serve"], "qmailq")
            until(self.writer_answers, self.log)
        self.service(["qmail-start", "./Maildir/", "tee", str(self.log_path)])
        until(lambda: "status: local" in self.log(), self.log)
        self.port = free_port()
        self.service(["qmail-smtpd", "--listen", f"127.0.0.1:{self.port}", "--user", "qmaild"])
        until(lambda: "listening on" in self.log(), self.log)
        until(self.writer_answers, self.log)

    def service(self, command: list[str], user: str = "root") -> None:
        """Starts one of our programs, or another one by its whole path, as a service."""
        command = [os.path.join(f"{self.home}/bin", command[0]), *command[1:]]
        if self.confined is not None:
            argv = self.machine.argv(self.confined(command))
        else:
            argv = self.machine.argv([*self.tracer(user), *command], user)
        with (self.base / "services").open("ab") as output:
            self._services.append(
                subprocess.Popen(argv, env=self.environ, cwd="/", stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=output, start_new_session=True)
            )  # fmt: skip

    def writer_answers(self) -> bool:
        """Whether somebody takes mail for the queue."""
        with socket.socket(socket.AF_UNIX) as trial:
            return trial.connect_ex(str(self.home / "run" / "qmail-queue")) == 0

    def log(self) -> str:
        """What qmail-send's logger wrote, and what the services printed besides."""
        paths = (self.log_path, self.base / "services")
        return "".join(path.read_text("utf-8", "replace") for path in paths if path.exists())

    def send(self, sender: str, recipient: str, text: str = "Subject: x\r\n\r\nbody\r\n") -> None:
        """A message over SMTP."""
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.test", timeout=DEADLINE_S) as connection:
            connection.sendmail(sender, [recipient], text)

    def mail(self, user: str, needle: str) -> tuple[str, os.stat_result]:
        """The message with `needle` in somebody's Maildir, once it has come."""
        found: list[Path] = []

        def look() -> bool:
            new = self.person(user) / "Maildir" / "new"
            found[:] = [path for path in new.iterdir() if needle in path.read_text()]
            return bool(found)

        until(look, self.log)
        return found[0].read_text(), found[0].stat()

    def processes(self) -> dict[int, str]:
        """pid -> command line of everything started from here: each has a path of ours in it. No zombies."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ended while we looked
                if f"{self.base}/" in command:
                    found[int(entry.name)] = command
        return found

    def stop(self) -> list[int]:
        """TERM to each service, the newest first; returns their exit codes once no process is left."""
        codes = []
        for service in reversed(self._services):
            service.terminate()
            codes.append(service.wait(DEADLINE_S))
        self._services.clear()
        until(lambda: not self.processes(), lambda: f"{self.processes()}\n{self.log()}")
        return codes

    def clear(self) -> None:
        """After a test, failed or not: nothing stays."""

        def none_left() -> bool:
            left = self.processes()
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # it was quicker
            return not left

        until(none_left, lambda: str(self.processes()))
        for service in self._services:
            service.wait(DEADLINE_S)
        self.machine.close()


@contextmanager
def made_system() -> Iterator[System]:
    base = open_directory()
    try:
        system = System(base)
        try:
            yield system
        finally:
            system.clear()
    finally:
        shutil.rmtree(base)


def identity(machine: Machine, pid: int) -> tuple[str, str, set[str]]:
    """User, group and all groups of a process; its real, effective and saved ids must be the same."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    uids, gids = set(status["Uid"].split()), set(status["Gid"].split())
    assert len(uids) == 1, f"uids {status['Uid']}"
    assert len(gids) == 1, f"gids {status['Gid']}"
    groups = {machine.group_name.get(int(number), number) for number in status["Groups"].split()}
    uid, gid = int(uids.pop()), int(gids.pop())
    return machine.user_name.get(uid, str(uid)), machine.group_name.get(gid, str(gid)), groups


def roles(system: System) -> dict[str, list[tuple[str, str, set[str]]]]:
    """Program -> identity of each process that runs it, qmail-lspawn's workers left out."""
    found: dict[str, list[tuple[str, str, set[str]]]] = {}
    processes = system.processes()
    lspawns = {pid for pid, command in processes.items() if "qmail-lspawn" in command}
    for pid, command in processes.items():
        name = next((name for name in ROLES if name in command.split("/log/")[0]), command)
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if parent not in lspawns:
                found.setdefault(name, []).append(identity(system.machine, pid))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return found
