"""The warm worker: one process that does all local deliveries of one uid, from qmail-lspawn's fork until idle.

It has given up every other right before it sees its first job. All jobs that wait are taken at once; those that are
one Maildir delivery share their waits for the disk (`deliver_batch`). Whatever may take long or leave traces in a
process, that is programs, forwards, mbox files, large messages and a site's own qmail-local, runs in a forked child
with the message on descriptor 0 and a pipe on 1 and 2, as qmail-local would.

It never enters a directory: jobs of one uid may have different homes. It ends when its socket is closed: the idle
time is counted by qmail-lspawn, which alone knows that no job is under way to it. Its death costs only its open
jobs, which wait in the queue.
"""

import os
import select
import signal
import socket
from array import array

from notqmail.deliver import local, local_plan, worker_link
from notqmail.deliver.mailboxes import MaildirJob, UniqueNames, deliver_batch
from notqmail.deliver.worker_link import CRASHED, OUTPUT_MAX, Job
from notqmail.unix.durable import Disk
from notqmail.unix.mains import TEMPORARY
from notqmail.unix.processes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.unix.clock import Clock

BATCH_MAX = 64
_CANNOT_RUN = 120  # Unable to run qmail-local, try later
_NO_DESCRIPTOR = b"qmail-spawn unable to open message. (#4.3.0)\n"
_CANNOT_FORK = b"qmail-spawn unable to fork. (#4.3.0)\n"
_RESULTS_PACKET = 32_768
_ANCILLARY_BYTES = socket.CMSG_SPACE(worker_link.JOBS_PER_PACKET * array("i").itemsize)


class Child:
    """A forked delivery: where its output comes from and what it wrote so far."""

    __slots__ = ("exit_fd", "output", "pid", "pipe_fd", "slot")

    def __init__(self, slot: int, pid: int, pipe_fd: int) -> None:
        self.slot, self.pid, self.pipe_fd = slot, pid, pipe_fd
        self.exit_fd = -1
        self.output = bytearray()


class Worker:
    """Takes jobs from `link` and answers on it; `default_delivery` is qmail-lspawn's argument."""

    def __init__(self, link: socket.socket, tools: local.Tools, default_delivery: bytes) -> None:
        self._link, self._tools, self._default = link, tools, default_delivery
        self._names = UniqueNames(tools.clock)
        self._children: dict[int, Child] = {}  # by the descriptor that we wait for
        self._results: list[bytes] = []
        self._poll = select.poll()
        self._poll.register(link, select.POLLIN)

    def run(self) -> None:
        """Works until qmail-lspawn closes the socket. Children still running then are left to end by themselves."""
        while True:
            for descriptor, _events in self._poll.poll():
                if descriptor != self._link.fileno():
                    self._hear_child(self._children[descriptor])
                elif not self._take_jobs():
                    return
            self._send_results()

    # -- jobs in ----------------------------------------------------------------------------------------------------

    def _take_jobs(self) -> bool:
        """Takes what waits and does it; False when the socket is closed."""
        batch: list[tuple[Job, int, MaildirJob]] = []
        taken = 0
        is_open = True
        while taken < BATCH_MAX:
            received = self._receive()
            if received is None:
                break
            jobs, descriptors = received
            if not jobs:
                is_open = False
                break
            taken += len(jobs)
            for number, job in enumerate(jobs):
                if number < len(descriptors):
                    self._start(job, descriptors[number], batch)
                else:
                    self._finish(job.slot, TEMPORARY, _NO_DESCRIPTOR)  # our table of descriptors is full
        self._deliver(batch)
        return is_open

    def _receive(self) -> tuple[list[Job], list[int]] | None:
        """(jobs, their message files); None when nothing waits; no jobs at the end."""
        try:
            packet, ancillary, _flags, _address = self._link.recvmsg(
                worker_link.PACKET_MAX, _ANCILLARY_BYTES, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionResetError:
            return [], []
        descriptors = array("i")  # by hand: socket.recv_fds of Python 3.11 drops its flags
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        return (worker_link.decode_jobs(packet) if packet else []), descriptors.tolist()

    def _start(self, job: Job, message_fd: int, batch: "list[tuple[Job, int, MaildirJob]]") -> None:
        """Answers, forks or adds to the batch. The descriptor is closed, except for the batch, which closes its own."""
        keep = False
        try:
            plan = None if job.program else self._resolve(job, message_fd)
            maildir = plan.maildir_job() if plan is not None else None
            if maildir is not None and maildir.message.is_short:
                batch.append((job, message_fd, maildir))
                keep = True
            elif plan is not None and not plan.steps:
                self._finish(job.slot, 0, local_plan.DID_NOTHING)
            else:
                self._fork(job, message_fd, plan)
        except local_plan.Stopped as stopped:
            self._finish(job.slot, stopped.code, stopped.text + b"\n" if stopped.text else b"")
        except Exception as error:  # noqa: BLE001 - one job's surprise must not cost the others theirs
            self._finish(job.slot, TEMPORARY, f"qmail-local: {type(error).__name__}\n".encode())
        finally:
            if not keep:
                os.close(message_fd)

    def _resolve(self, job: Job, message_fd: int) -> local_plan.Plan:
        return local_plan.resolve(self._request(job), message_fd)

    def _request(self, job: Job) -> local_plan.Request:
        return local_plan.Request(
            job.user, job.home, job.local, job.dash, job.ext, job.domain, job.sender, self._default
        )

    def _deliver(self, batch: "list[tuple[Job, int, MaildirJob]]") -> None:
        try:
            failures = deliver_batch([maildir for _, _, maildir in batch], self._tools.disk, self._names)
        finally:
            for _, message_fd, _ in batch:
                os.close(message_fd)
        for (job, _, _), failure in zip(batch, failures, strict=True):
            if failure is None:
                self._finish(job.slot, 0, local_plan.DID_ONE_FILE)
            else:
                self._finish(job.slot, TEMPORARY, failure + b"\n")

    # -- children ---------------------------------------------------------------------------------------------------

    def _fork(self, job: Job, message_fd: int, plan: local_plan.Plan | None) -> None:
        try:
            reader, writer = os.pipe()
        except OSError:
            self._finish(job.slot, TEMPORARY, _CANNOT_FORK)
            return
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            self._finish(job.slot, TEMPORARY, _CANNOT_FORK)
            return
        if pid == 0:
            self._be_child(job, message_fd, writer, plan)
        os.close(writer)
        os.set_blocking(reader, False)
        self._children[reader] = Child(job.slot, pid, reader)
        self._poll.register(reader, select.POLLIN)

    def _be_child(self, job: Job, message_fd: int, writer: int, plan: local_plan.Plan | None) -> None:
        """In the child: never returns."""
        code = TEMPORARY
        try:
            os.dup2(message_fd, 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the socket too: who holds it looks like the worker
            if plan is None:
                code = self._exec(job)
            else:
                assert plan.message is not None
                plan.message.descriptor = 0
                write_all(1, local.perform(plan, self._tools))
                code = 0
        except local_plan.Stopped as stopped:
            code = stopped.code
            if stopped.text:
                write_all(2, stopped.text + b"\n")
        except Exception as error:  # noqa: BLE001 - the outermost frame of a process: unknown is temporary
            write_all(2, f"qmail-local: fatal: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        finally:
            os._exit(code)

    def _exec(self, job: Job) -> int:
        """Becomes the site's own qmail-local: same arguments, in the mail system's home."""
        argv = [
            b"bin/qmail-local", b"--", job.user, job.home, job.local, job.dash, job.ext, job.domain, job.sender,
            self._default,
        ]  # fmt: skip
        try:
            os.chdir(self._tools.home)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # ignored by the interpreter, and so by its programs
            os.execve(job.program, argv, dict(self._tools.environ))
        except OSError:
            return _CANNOT_RUN

    def _hear_child(self, child: Child) -> None:
        """Reads output; at its end waits for the death, by pidfd when the child outlives its output."""
        if child.exit_fd >= 0:
            self._reap(child)
            return
        try:
            piece = os.read(child.pipe_fd, 4_096)
        except (BlockingIOError, InterruptedError):
            return
        if piece:
            if len(child.output) <= OUTPUT_MAX:
                child.output += piece
            return
        self._forget(child.pipe_fd)
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            self._report_child(child, status)
        elif hasattr(os, "pidfd_open"):
            child.exit_fd = os.pidfd_open(child.pid)
            self._children[child.exit_fd] = child
            self._poll.register(child.exit_fd, select.POLLIN)
        else:
            self._report_child(child, os.waitpid(child.pid, 0)[1])

    def _reap(self, child: Child) -> None:
        self._forget(child.exit_fd)
        self._report_child(child, os.waitpid(child.pid, 0)[1])

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._children[descriptor]
        os.close(descriptor)

    def _report_child(self, child: Child, status: int) -> None:
        code = CRASHED if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        self._finish(child.slot, code, worker_link.bounded_output(bytes(child.output)))

    # -- results out ------------------------------------------------------------------------------------------------

    def _finish(self, slot: int, status: int, output: bytes) -> None:
        self._results.append(worker_link.encode_result(slot, status, worker_link.bounded_output(output)))

    def _send_results(self) -> None:
        """Blocking: qmail-lspawn reads all the time, and there are never more results than it gave jobs."""
        results, self._results = self._results, []
        while results:
            packet = bytearray()
            while results and len(packet) < _RESULTS_PACKET:
                packet += results.pop(0)
            try:
                self._link.send(packet)
            except (BrokenPipeError, ConnectionResetError):
                return  # qmail-lspawn is gone: the next poll says so, and the queue keeps the messages


def serve(
    link: socket.socket, *, home: bytes, environ: dict[bytes, bytes], default_delivery: bytes, clock: "Clock",
    disk: Disk,
) -> None:  # fmt: skip
    """A worker's life, in the process that qmail-lspawn forked for it, its rights given up already."""
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Worker(link, local.Tools(home, environ, disk, clock), default_delivery).run()
