"""`notqmail run`: the whole mail system in the foreground, as the calling user, until Ctrl-C.

Starts in the order in which the programs need one another (queue, send, smtpd), sends itself a message,
then shows the log. Stops in the other order: first nobody comes in any more, then nothing goes out, then
the queue closes. It is for single-user homes; a classic installation is started by its service manager
(packaging/).
"""

import errno
import fcntl
import ipaddress
import os
import signal
import smtplib
import socket
from collections.abc import Callable, Mapping

from notqmail.admin import first_message
from notqmail.admin.console import Console, printable
from notqmail.admin.household import Household, Service
from notqmail.admin.new_home import own_name
from notqmail.unix.clock import Clock

READY_WAIT_S = 30.0
ARRIVAL_WAIT_S = 30.0
STOP_PATIENCE_S = 30.0
LISTENING = "listening on"
_PASSED_ON = (b"TZ", b"DATABYTES")
_PASSED_ON_PREFIX = b"QMAIL"


class CannotRun(Exception):
    """The system cannot start; str() says why and what to do."""


def parse_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:2525` or `[::1]:2525` to (host, port). Raises CannotRun."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not _is_address(host) or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
        raise CannotRun(f"{text!r} is not ADDRESS:PORT, as in 127.0.0.1:2525")
    if int(port) < 1024:
        raise CannotRun(f"port {port} is below 1024: `notqmail run` needs no root and takes none; choose 2525")
    return host, int(port)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False  # a name may mean several addresses: which one is not ours to guess
    return True


def lock_home(home: bytes) -> int:
    """Takes the home for this process; returns the descriptor that holds the lock. Raises CannotRun."""
    lock_fd = os.open(os.path.join(home, b"run/notqmail-run.pid"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock_fd, 20, 0).decode("ascii", "replace").strip()
        os.close(lock_fd)
        raise CannotRun(
            f"{os.fsdecode(home)} is running already (process {holder}); `kill {holder}` stops it"
        ) from None
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
    return lock_fd


def look_port_is_free(address: tuple[str, int]) -> None:
    """Binds and lets go, to say it in plain words before anything is started. Raises CannotRun."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
            trial.listen(1)
        except OSError as error:
            raise CannotRun(
                f"cannot listen on {show_address(address)}: {error.strerror}. {_advice(error, address)}"
            ) from error


def _advice(error: OSError, address: tuple[str, int]) -> str:
    if error.errno != errno.EADDRINUSE:
        return "Is that an address of this machine? 127.0.0.1 always is"
    other = show_address((address[0], address[1] + 1))
    return f"Something else is using the port; choose another: make run SMTP={other} (or: notqmail run --smtp {other})"


def show_address(address: tuple[str, int]) -> str:
    """ADDRESS:PORT, with brackets around IPv6."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def child_environment(home: bytes, environ: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What the programs get: little, as from qmail's boot scripts, for .qmail programs see it too."""
    kept = {name: value for name, value in environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIX)}
    path = os.path.join(home, b"bin") + b":" + environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")
    return {**kept, b"QMAILHOME": home, b"PATH": path}


def waiting_messages(home: bytes) -> int:
    """How many messages are in the queue: not yet preprocessed (todo) or not yet done with (info)."""
    found: set[bytes] = set()
    for part in (b"todo", b"info"):
        for _, _, files in os.walk(os.path.join(home, b"queue", part)):
            found.update(name for name in files if name.isdigit())
    return len(found)


class MailSystem:
    """The three services of a home and their order."""

    def __init__(self, home: bytes, address: tuple[str, int], environ: Mapping[bytes, bytes]) -> None:
        self.home, self.address = home, address
        self.console = Console()
        self.household = Household(child_environment(home, environ), self.console, Clock())
        self.queue = Service("qmail-queue", [self._bin(b"qmail-queue"), b"--serve"])
        self.send = Service("qmail-send", [self._bin(b"qmail-start"), _default_delivery(home)])
        smtpd = [self._bin(b"qmail-smtpd"), b"--listen", show_address(address).encode()]
        rules_path = os.path.join(home, b"control/tcp.smtp.cdb")
        if os.path.exists(rules_path):
            smtpd += [b"--rules", rules_path]
        self.smtpd = Service("qmail-smtpd", smtpd, ready_line=LISTENING)

    def _bin(self, name: bytes) -> bytes:
        return os.path.join(self.home, b"bin", name)

    def start(self) -> bool:
        """Starts everything; False when something did not come up or a stop was asked for."""
        self.household.start(self.queue)
        if not self._came_up("qmail-queue", self._queue_answers):
            return False
        self.household.start(self.send)
        self.household.start(self.smtpd)
        return self._came_up("qmail-smtpd", lambda: self.smtpd.said_ready)

    def _came_up(self, name: str, is_ready: Callable[[], bool]) -> bool:
        household = self.household
        household.turn_until(lambda: is_ready() or bool(household.given_up), READY_WAIT_S)
        if not is_ready() and not household.stop_asked:
            self.console.log("notqmail", f"{name} did not start; its lines above say why")
        return is_ready()

    def _queue_answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            try:
                trial.connect(os.path.join(self.home, b"run/qmail-queue"))
            except OSError:
                return False
        return True

    def prove(self) -> bool:
        """Sends the first message and shows it in the Maildir; False when it did not arrive."""
        to = f"{own_name()}@localhost"
        new_path = os.path.join(self.home, b"Maildir/new")
        self.console.log("notqmail", f"sending a first message to {to}")
        try:
            message_id = first_message.send(self.address, to)
        except (OSError, smtplib.SMTPException) as error:
            self.console.log("notqmail", f"it was not accepted: {printable(str(error).encode())}")
            return False
        self.console.log("notqmail", "accepted (250): it is safe on disk; waiting for it in the Maildir")
        seen: set[bytes] = set()
        arrived: list[tuple[bytes, bytes]] = []

        def look() -> bool:
            arrived.extend(filter(None, [first_message.find(new_path, message_id, seen)]))
            return bool(arrived)

        if not self.household.turn_until(look, ARRIVAL_WAIT_S):
            self.console.log("notqmail", f"it did not arrive within {ARRIVAL_WAIT_S:.0f} seconds")
            return False
        name, header = arrived[0]
        self.console.log("notqmail", f"it arrived: {printable(os.path.join(new_path, name))}")
        for line in header.split(b"\n"):
            self.console.say(f"    {printable(line)}")
        return True

    def pass_on_signals(self) -> None:
        """HUP and ALRM mean qmail-send: reread locals and virtualdomains; try everything now (qmail-send(8)).

        A terminal that went away sends HUP as well: then saying so fails, and the console is closed.
        """
        for number in self.household.take_passed_on():
            name = signal.Signals(number).name
            self.console.log("notqmail", f"passing {name} on to qmail-send")
            if self.send.pid:
                os.kill(self.send.pid, number)

    def stop(self) -> None:
        """Stops everything in order and says what is left in the queue."""
        self.console.log("notqmail", "stopping (what is being delivered may finish; Ctrl-C again to hurry)")
        for service in (self.smtpd, self.send, self.queue):
            if not self.household.stop(service, STOP_PATIENCE_S):
                self.console.log(
                    "notqmail",
                    f"{service.name} had to be killed; what it had in hand is still queued for another try",
                )
        waiting = waiting_messages(self.home)
        noun = "message waits" if waiting == 1 else "messages wait"
        self.console.log("notqmail", f"stopped; nothing is lost; {waiting} {noun} in the queue for the next run")


def _default_delivery(home: bytes) -> bytes:
    try:
        with open(os.path.join(home, b"control/defaultdelivery"), "rb") as file:
            return file.read().rstrip(b"\n") or b"./Maildir/"
    except FileNotFoundError:
        return b"./Maildir/"


def run_home(home: bytes, address: tuple[str, int], environ: Mapping[bytes, bytes], *, prove: bool) -> int:
    """Runs the system of an existing home until told to stop; returns the exit code. Raises CannotRun."""
    lock_fd = lock_home(home)
    look_port_is_free(address)
    system = MailSystem(home, address, environ)
    console, household = system.console, system.household
    user = own_name()
    console.say(f"SMTP:    {show_address(address)}")
    console.say(f"mail:    {user}@localhost lands in {printable(os.path.join(home, b'Maildir/'))}")
    console.say(f"home:    {printable(home)} (settings in control/, what waits in queue/)")
    console.say("stop:    Ctrl-C")
    console.say()
    works = system.start()
    if works and prove:
        works = system.prove()
    if works:
        console.log("notqmail", "running; Ctrl-C stops it")
    while works and not (household.stop_asked or household.given_up or console.closed):
        household.turn()
        system.pass_on_signals()
    asked = bool(household.stop_asked or console.closed)
    system.stop()
    os.close(lock_fd)
    return 0 if asked and not household.given_up else 1
