"""A classic system as its operator has it: shipped run scripts, unchanged, under a real supervisor.

The machine is one of its own: accounts, processes, network, and a /var in which /var/qmail is the home. So every path
and every port is the real one. Only the tools of the supervisor under test are in PATH, besides the shell's.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interop_system import program

sys.path.append(str(Path(__file__).parents[1] / "process"))
from classic_house import DEADLINE_S, HOST, Machine, System, interpreter, open_directory, until

RUN_SCRIPTS = Path(__file__).parents[2] / "packaging" / "run"
SERVICES = sorted(path.name for path in RUN_SCRIPTS.iterdir())
SHELL_TOOLS = ("sh", "env", "cat", "mkdir", "chown", "chmod", "tcpserver")
ALICE = f"alice@{HOST}"
PASSWORD = "correct horse"
PORTS = (25, 110, 209, 628)
PROGRAMS = ("qmail-queue", "qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-clean", "qmail-smtpd", "qmail-qmtpd",
            "qmail-qmqpd", "tcpserver")  # fmt: skip
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
PYTHON = "import json, poplib, smtplib, sys; argument = json.loads(sys.stdin.read())\n"
SEND = """
with smtplib.SMTP("127.0.0.1", 25, local_hostname="client.test", timeout=60) as connection:
    for sender, recipient, text in argument:
        try:
            connection.sendmail(sender, [recipient], text)
        except (smtplib.SMTPException, OSError):
            break
        print(text)
"""
PACKAGE = """
import socket
text = lambda value: b"%d:%b," % (len(value), value)
sender, recipient, message = (value.encode() for value in argument)
with socket.create_connection(("127.0.0.1", 209), 60) as connection:
    connection.sendall(text(b"\\n" + message) + text(sender) + text(text(recipient)))
    print(connection.recv(1000).decode())
"""
FETCH = """
client = poplib.POP3("127.0.0.1", 110, timeout=60)
client.user("alice")
client.pass_(argument)
print(client.stat()[0])
client.quit()
"""


class Supervisor:
    """What differs between them, as shell commands.

    In them `{dirs}` are the service directories, `{logs}` those of their loggers, `{scan}` is what the supervisor looks
    at, `{pid}` its process.
    """

    def __init__(self, name: str, *, tools: str, scan: str, down: str, end: str) -> None:
        self.name, self.tools = name, tools.split()
        self.scan, self.down, self.end = scan, down, end


SUPERVISORS = (
    Supervisor(
        "daemontools", tools="svscan supervise svc setuidgid multilog",
        scan="exec svscan {scan}", down="svc -d {dirs}",
        end="rm {scan}/* && svc -dx {dirs} {logs} && kill {pid}",
    ),
    Supervisor(
        "runit", tools="runsvdir runsv sv chpst svlogd",
        scan="exec runsvdir {scan}", down="sv -w 60 down {dirs}", end="kill -HUP {pid}",
    ),
    Supervisor(
        "s6", tools="s6-svscan s6-supervise s6-svc s6-svscanctl s6-setuidgid s6-log",
        scan="exec s6-svscan {scan}", down="for one in {dirs}; do s6-svc -d $one; done", end="s6-svscanctl -t {scan}",
    ),
)  # fmt: skip


class Supervised(System):
    """A classic home at /var/qmail and the supervisor over its services. `path` has the supervisor's tools."""

    def __init__(self, base: Path, supervisor: Supervisor) -> None:
        var, home = base / "v", base / "q"
        home.mkdir()
        mounts = (
            f"mkdir -p {var}/qmail {var}/log {var}/tmp && mount --rbind /var/tmp {var}/tmp && "
            f"mount --bind {home} {var}/qmail && mount --rbind {var} /var && ip link set lo up"
        )
        self._process: subprocess.Popen[bytes] | None = None
        super().__init__(base, Machine(base, ("pid", "net"), mounts))
        self.var, self._supervisor, self.python_path = var, supervisor, interpreter()
        self.path = base / "tools"
        self.path.mkdir()
        for name in (*SHELL_TOOLS, *supervisor.tools):
            (self.path / name).symlink_to(program(name))
        self._scan = base / "scan"
        self._scan.mkdir()
        for name in SERVICES:
            shutil.copytree(RUN_SCRIPTS / name, base / "sv" / name)
            (self._scan / name).symlink_to(base / "sv" / name)
        self._settings()

    def _settings(self) -> None:
        control = self.home / "control"
        self.write(control / "tcp.qmqp", "127.:allow\n:deny\n", "root")
        rules = f"tcprules {control}/tcp.qmqp.cdb {control}/tcp.qmqp.tmp <{control}/tcp.qmqp"
        self.shell(rules)
        self.write(control / "qmqpservers", "127.0.0.1\n", "root")
        line = self.run(["/var/qmail/bin/checkpassword", "--make", "alice"], data=PASSWORD.encode() + b"\n").stdout
        self.write(control / "passwords", line.decode(), "root", 0o600)

    def shell(self, command: str) -> None:
        """A command of the operator's."""
        done = self.run(["/bin/sh", "-c", command])
        assert done.returncode == 0, f"{command}\n{done.stdout.decode()}{done.stderr.decode()}"

    def _command(self, text: str) -> str:
        services = [str(self.base / "sv" / name) for name in SERVICES]
        pid = min(self._inside({"svscan", "runsvdir", "s6-svscan"}), default=0)
        return text.format(scan=self._scan, dirs=" ".join(services), logs=" ".join(f"{one}/log" for one in services),
                           pid=pid)  # fmt: skip

    def start(self, *, own_writer: bool = True) -> None:
        """The supervisor, with nothing in its environment; returns when every service is there for its clients."""
        with (self.base / "services").open("ab") as output:
            scan = ["/bin/sh", "-c", self._command(self._supervisor.scan)]
            self._process = subprocess.Popen(
                self.machine.argv([program("env"), "-i", f"PATH={self.path}", *scan]),
                cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.wait_up()

    def wait_up(self) -> None:
        """Returns when all ports are listened on, the queue's writer answers and qmail-send has begun."""
        until(lambda: self.listening() >= set(PORTS), self.log)
        until(self.writer_answers, self.log)
        until(lambda: self.running("qmail-send") and self.running("qmail-rspawn"), self.log)

    def listening(self) -> set[int]:
        """The TCP ports that somebody listens on in there."""
        lines = self.run(["/bin/cat", "/proc/net/tcp"]).stdout.decode().splitlines()[1:]
        return {int(words[1].rpartition(":")[2], 16) for words in map(str.split, lines) if words[3] == LISTENING}

    def processes(self) -> dict[int, str]:
        """pid (out here) -> command line of all that the supervisor started or that process 1 inherited. No zombies."""
        parents = {
            int(entry.name): parent(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()
        }
        first = {pid for pid, above in parents.items() if above == self.machine.holder}
        own_cat = {pid for pid, above in parents.items() if above in first and command(pid) == "cat "}
        starter = {self._process.pid} if self._process is not None else set()
        family, more = set[int](), first | starter
        while more:
            family |= more
            more = {pid for pid, above in parents.items() if above in more}
        found = {pid: command(pid) for pid in family - first - own_cat - starter}
        return {pid: text for pid, text in found.items() if text}

    def running(self, name: str) -> list[int]:
        """The processes (out here) of one of our programs."""
        return [pid for pid, command in self.processes().items() if f"/bin/{name} " in command]

    def _inside(self, names: set[str]) -> list[int]:
        """Process numbers, as they are in there, of programs with these names."""
        found = []
        for pid, command in self.processes().items():
            if Path(command.split(" ")[0]).name in names:
                (line,) = [text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if "NSpid" in text]
                found.append(int(line.split()[-1]))
        return found

    def python(self, script: str, argument: object) -> str:
        """What a Python script printed in there."""
        done = self.run([self.python_path, "-c", PYTHON + script], data=json.dumps(argument).encode())
        assert done.returncode == 0, done.stderr.decode() + self.log()
        return done.stdout.decode()

    def service_log(self, name: str) -> str:
        """What a service's logger wrote."""
        path = self.var / "log" / "qmail" / name / "current"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def log(self) -> str:
        """What everybody said."""
        logs = {name: self.service_log(name) for name in SERVICES}
        return "\n".join([super().log(), *(f"{name}:\n{text}" for name, text in logs.items()), str(self.processes())])

    def bring_down(self) -> None:
        """All services down; returns when they are."""
        self.shell(self._command(self._supervisor.down))
        until(lambda: not [pid for name in PROGRAMS for pid in self.running(name)], self.log)

    def end(self) -> None:
        """The supervisor and its loggers too; returns when nothing runs any more."""
        self.shell(self._command(self._supervisor.end))
        until(lambda: not self.processes(), self.log)
        assert self._process is not None
        self._process.wait(DEADLINE_S)

    def clear(self) -> None:
        """With its first process everything in there ends."""
        self.machine.close()
        if self._process is not None:
            self._process.wait(DEADLINE_S)


def parent(pid: int) -> int:
    """Of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def command(pid: int) -> str:
    """Its words, a blank after each; empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def supervised(supervisor: Supervisor) -> Iterator[Supervised]:
    """Such a system, not started; it is gone afterwards."""
    for name in ("ip", *SHELL_TOOLS, *supervisor.tools):
        program(name)
    base = open_directory()
    try:
        made = Supervised(base, supervisor)
        try:
            yield made
        finally:
            made.clear()
    finally:
        shutil.rmtree(base)
