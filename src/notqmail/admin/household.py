"""The household: a few long-running programs, started, watched, restarted and stopped by one process.

One loop and no threads: it waits for output of the programs, for signals, and for the next restart that is
due. A program that ends by itself is started again after a second; one that keeps ending (RESTARTS_MAX in
RESTART_WINDOW_S) ends the household, for a machine that restarts for ever hides its fault.
"""

import os
import selectors
import signal
from collections.abc import Callable, Mapping, Sequence

from notqmail.admin.children import adopt_orphans, group_is_gone, signal_group, start_child
from notqmail.admin.console import Console, Lines
from notqmail.unix.clock import Clock
from notqmail.unix.processes import Ended

RESTART_AFTER_S = 1.0
RESTARTS_MAX = 5
RESTART_WINDOW_S = 60.0
GROUP_WAIT_S = 60.0
HURRIED_PATIENCE_S = 2.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
PASSED_ON_SIGNALS = (signal.SIGHUP, signal.SIGALRM)


class Service:
    """One program and what is known about it. `ready_line`: how the line begins that says it works."""

    def __init__(self, name: str, argv: Sequence[bytes], *, ready_line: str = "") -> None:
        self.name, self.argv, self.ready_line = name, argv, ready_line
        self.pid = 0  # 0: does not run
        self.group = 0  # the last pid: its group may live on for a moment
        self.said_ready = False
        self.told_to_stop = False
        self.restart_at_s: float | None = None
        self.ends_s: list[float] = []


class Household:
    """Runs services. `stop_asked` counts stop signals; `given_up` names a service that keeps ending."""

    def __init__(self, environ: Mapping[bytes, bytes], console: Console, clock: Clock) -> None:
        self._environ, self._console, self._clock = environ, console, clock
        self._selector = selectors.DefaultSelector()
        self._services: list[Service] = []
        self.stop_asked = 0
        self.given_up = ""
        adopt_orphans()
        self._wake_fd, wake_end_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, None)
        signal.set_wakeup_fd(wake_end_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the loop
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for number in STOP_SIGNALS:
            signal.signal(number, self._note_stop)
        self._passed_on: list[int] = []
        for number in PASSED_ON_SIGNALS:
            signal.signal(number, lambda number, _frame: self._passed_on.append(number))

    def _note_stop(self, *_: object) -> None:
        self.stop_asked += 1

    def take_passed_on(self) -> list[int]:
        """The HUP and ALRM signals that came since the last call: they are meant for a service."""
        taken, self._passed_on = self._passed_on, []
        return taken

    def start(self, service: Service) -> None:
        """Starts a service; its output goes to the console, line by line."""
        if service not in self._services:
            self._services.append(service)
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_fd, False)
        try:
            service.pid = start_child(service.argv, environ=self._environ, output_fd=write_fd)
        finally:
            os.close(write_fd)
        service.group, service.restart_at_s, service.said_ready = service.pid, None, False
        self._selector.register(read_fd, selectors.EVENT_READ, (service, Lines(service.name)))

    def turn(self, wait_s: float = 1.0) -> None:
        """One round: shows what was printed, notices who ended, starts again what is due."""
        due = [s.restart_at_s for s in self._services if s.restart_at_s is not None]
        if due:
            wait_s = max(0.0, min(wait_s, min(due) - self._clock.steady_s()))
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                os.read(self._wake_fd, 512)
            else:
                self._show(key.fd, *key.data)
        self._reap()
        for service in self._services:
            if service.restart_at_s is not None and service.restart_at_s <= self._clock.steady_s():
                self._start_again(service)

    def turn_until(self, reached: Callable[[], bool], wait_s: float) -> bool:
        """Rounds until `reached()`; False when `wait_s` passed or a (further) stop signal came before."""
        end_s, asked = self._clock.steady_s() + wait_s, self.stop_asked
        while not reached():
            if self._clock.steady_s() >= end_s or self.stop_asked != asked:
                return False
            self.turn(0.05)
        return True

    def _show(self, fd: int, service: Service, lines: Lines) -> None:
        try:
            data = os.read(fd, 65_536)
        except BlockingIOError:
            return
        for line in lines.feed(data) if data else lines.end():
            self._console.log(service.name, line)
            if service.ready_line and line.startswith(service.ready_line):
                service.said_ready = True
        if not data:
            self._selector.unregister(fd)
            os.close(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self._services:
                if service.pid == pid:
                    self._note_end(service, Ended(status))

    def _note_end(self, service: Service, ended: Ended) -> None:
        service.pid = 0
        if service.told_to_stop:
            return
        now_s = self._clock.steady_s()
        service.ends_s = [end_s for end_s in service.ends_s if end_s > now_s - RESTART_WINDOW_S] + [now_s]
        how = f"was killed by signal {ended.killed_by}" if ended.crashed else f"ended with code {ended.code}"
        if len(service.ends_s) > RESTARTS_MAX:
            self.given_up = service.name
            self._console.log("notqmail", f"{service.name} {how} once more: giving up")
            return
        self._console.log("notqmail", f"{service.name} {how}: starting it again")
        service.restart_at_s = now_s + RESTART_AFTER_S

    def _start_again(self, service: Service) -> None:
        waited_s = self._clock.steady_s() - service.ends_s[-1]
        if group_is_gone(service.group) or waited_s > GROUP_WAIT_S:
            self.start(service)
        else:  # its children still finish deliveries; two at one message would deliver it twice
            service.restart_at_s = self._clock.steady_s() + RESTART_AFTER_S

    def stop(self, service: Service, patience_s: float) -> bool:
        """TERM, then waits until the whole group has left; KILL after `patience_s`, sooner at a second stop signal.

        False when it had to be killed.
        """
        service.restart_at_s, service.told_to_stop = None, True
        if service not in self._services:
            return True
        if service.pid:
            os.kill(service.pid, signal.SIGTERM)  # not reaped yet, so the number is still its own
        if self.stop_asked > 1:
            patience_s = min(patience_s, HURRIED_PATIENCE_S)
        gone = self.turn_until(lambda: service.pid == 0 and group_is_gone(service.group), patience_s)
        if not gone:
            if not signal_group(service.group, signal.SIGKILL):
                self._console.log(
                    "notqmail", f"{service.name}: a process of another user is left: kill it as that user"
                )
            end_s = self._clock.steady_s() + 5
            while (service.pid or not group_is_gone(service.group)) and self._clock.steady_s() < end_s:
                self.turn(0.05)
        self._services.remove(service)
        return gone
