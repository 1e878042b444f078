"""qmail-queue(8) as a process: exit codes, the resident and its clients, kill -9."""

import os
import re
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_home import DEADLINE_S, Home, Server, answer, run_queue, submit, until

from notqmail.receive.queue_line import JOIN_MAX
from notqmail.wire.qmqp import INLINE_MAX, encode_descriptor_package, encode_package

ENVELOPE = b"Fs@x\0Tr@me.test\0\0"


@pytest.fixture
def home(short_path: Path) -> Home:
    return Home(short_path / "h")


@pytest.fixture
def server(home: Home) -> Iterator[Server]:
    one = Server(home)
    yield one
    assert one.end() in (0, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (ENVELOPE, 0), (b"F\0\0", 0), (ENVELOPE + b"trailing", 0), (b"F" + b"s" * 1_002 + b"\0\0", 0),
        (b"F" + b"s" * 1_003 + b"\0\0", 11), (b"Fs\0T" + b"r" * 1_003 + b"\0\0", 11), (b"F" + b"s" * 5_000, 11),
        (b"", 54), (ENVELOPE[:-1], 54), (b"Fs@x", 54), (b"Xs\0\0", 91), (b"Fs\0Xr\0\0", 91),
    ],
)  # fmt: skip
def test_the_exit_code_says_what_became_of_it(home: Home, envelope: bytes, code: int) -> None:
    assert home.queue(b"Subject: x\n\nb\n", envelope) == code
    assert len(home.queued()) == (code == 0)
    assert home.litter() == []


def test_what_is_queued_is_what_was_given(home: Home) -> None:
    message = os.urandom(200_000)
    assert home.queue(message, ENVELOPE) == 0
    ((number, envelope),) = home.queued().items()
    top, _, rest = home.message(number).partition(b"\n")
    assert rest == message
    uid, pid, *records = envelope.split(b"\0")
    assert (uid, records) == (b"u%d" % os.getuid(), [b"Fs@x", b"Tr@me.test", b""])
    assert top.startswith(b"Received: (qmail %b invoked by uid %d); " % (pid[1:], os.getuid()))


def test_no_home_and_no_queue_have_their_codes(home: Home, tmp_path: Path) -> None:
    program = home.program("qmail-queue")
    missing = {**os.environ, "QMAILHOME": str(tmp_path / "missing")}
    assert run_queue(program, b"x", ENVELOPE, env=missing) == 61
    (tmp_path / "empty").mkdir()
    assert run_queue(program, b"x", ENVELOPE, env={**missing, "QMAILHOME": str(tmp_path / "empty")}) == 62
    (home.path / "queue" / "pid").rename(home.path / "queue" / "elsewhere")
    assert home.queue(b"x", ENVELOPE) == 63


def test_a_file_size_limit_is_a_write_error_and_leaves_nothing(home: Home) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    assert home.queue(b"x" * 100_000, ENVELOPE, preexec_fn=limit) == 53
    assert home.queued() == {} and home.litter() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ])
def test_signals_of_a_terminal_do_not_stop_it(home: Home, number: int) -> None:
    message_in, message_out = os.pipe()
    envelope_in, envelope_out = os.pipe()
    process = subprocess.Popen([home.program("qmail-queue")], stdin=message_in, stdout=envelope_in, env=home.environ)
    os.close(message_in)
    os.close(envelope_in)
    os.write(message_out, b"Subject: x\n\n")
    pid_files = home.path / "queue" / "pid"
    until(lambda: list(pid_files.iterdir()))  # it is reading now
    process.send_signal(number)
    os.write(message_out, b"body\n")
    os.close(message_out)
    os.write(envelope_out, ENVELOPE)
    os.close(envelope_out)
    assert process.wait(DEADLINE_S) == 0
    assert len(home.queued()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--nonsense"], 100), (["--serve", "--nonsense"], 100)]
)
def test_arguments(home: Home, arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [home.program("qmail-queue"), *arguments],
        env=home.environ,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == code
    assert b"usage: qmail-queue" in (done.stdout if code == 0 else done.stderr)


# ── the resident ─────────────────────────────────────────────────────────────────────────────────────────


def test_many_clients_at_once_are_all_answered_and_all_queued(server: Server) -> None:
    accepted: list[bytes] = []

    def client(name: int) -> None:
        with server.connect() as connection:
            for count in range(10):
                sender = b"%d.%d@x" % (name, count)
                assert submit(connection, b"x" * 1_000, sender, [b"r@me.test"]).startswith(b"Kok qp ")
                accepted.append(sender)

    threads = [threading.Thread(target=client, args=(name,)) for name in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    senders = {envelope.split(b"\0")[2][1:] for envelope in server.home.queued().values()}
    assert len(accepted) == 120 and senders == set(accepted)
    assert server.home.litter() == []


def test_a_client_that_vanishes_at_any_byte_leaves_nothing(server: Server) -> None:
    package = encode_package(b"hello\n", b"s@x", [b"r@me.test"])
    for cut in range(len(package)):
        with server.connect() as connection:
            connection.sendall(package[:cut])
    with server.connect() as connection:
        assert submit(connection, b"m", b"last@x", [b"r@me.test"])[:1] == b"K"
    assert [envelope.split(b"\0")[2] for envelope in server.home.queued().values()] == [b"Flast@x"]
    assert server.home.litter() == []


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 1_000, b"99999999999:", b"20000000:", b"3:abc,"]
)
def test_garbage_ends_its_own_connection_only(server: Server, garbage: bytes) -> None:
    with server.connect() as good, server.connect() as bad:
        bad.sendall(garbage)
        assert answer(bad)[:1] == b"Z"
        assert bad.recv(1) == b""
        assert submit(good, b"m", b"s@x", [b"r@me.test"])[:1] == b"K"


def test_a_large_message_comes_by_descriptor_and_a_short_file_is_refused(server: Server, tmp_path: Path) -> None:
    content = os.urandom(INLINE_MAX * 5)
    (tmp_path / "m").write_bytes(content)
    with server.connect() as connection, (tmp_path / "m").open("rb") as file:
        for promised, kind in ((len(content), b"K"), (len(content) + 1, b"Z")):
            package = encode_descriptor_package(promised, b"s@x", [b"r@me.test"])
            socket.send_fds(connection, [package], [file.fileno()])
            assert answer(connection)[:1] == kind
    ((number, _),) = server.home.queued().items()
    assert server.home.message(number).split(b"\n", 1)[1] == content
    assert server.home.litter() == []


@pytest.mark.parametrize("length", [JOIN_MAX, JOIN_MAX + 1])
def test_sixty_large_messages_at_once_are_all_queued_and_never_in_memory_together(server: Server, length: int) -> None:
    clients = [server.connect() for _ in range(60)]
    with open(os.memfd_create("message"), "wb") as file:
        file.truncate(length)
        for client in clients:
            socket.send_fds(client, [encode_descriptor_package(length, b"s@x", [b"r@me.test"])], [file.fileno()])
    assert [answer(client)[:1] for client in clients] == [b"K"] * 60
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    for client in clients:
        client.close()
    assert len(server.home.queued()) == 60 and server.home.litter() == []
    assert peak is not None and int(peak[1]) < 50_000, "some 20 MB without any message"


def test_the_kernel_says_who_called(server: Server) -> None:
    with server.connect() as connection:
        assert submit(connection, b"m", b"s@x", []) == b"Kok qp %d" % os.getpid()
    (envelope,) = server.home.queued().values()
    assert envelope == b"u%d\0p%d\0Fs@x\0" % (os.getuid(), os.getpid())


@pytest.mark.root
def test_another_user_is_who_the_kernel_says_and_needs_the_resident(server: Server) -> None:
    def other_user() -> None:
        os.setgroups([])
        os.setgid(65_534)
        os.setuid(65_534)

    code = (
        "import socket, sys; sys.path.insert(0, sys.argv[2]); from notqmail.wire.qmqp import encode_package\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(encode_package(b'm', b's', [b'r']))\n"
        "print(s.recv(100).decode())"
    )
    server.home.path.parent.chmod(0o755)
    source = os.environ["PYTHONPATH"]
    if subprocess.run(["test", "-r", source], preexec_fn=other_user, check=False).returncode:
        pytest.skip("the source may not be read by other users")
    path = server.home.path / "run" / "qmail-queue"
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code, path, source], preexec_fn=other_user, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    if "not found" in done.stderr or "Permission" in done.stderr:
        pytest.skip("no python3 that other users may run")
    assert ":Kok qp " in done.stdout, done.stderr
    (envelope,) = server.home.queued().values()
    assert envelope.startswith(b"u65534\0p")


def test_whatever_was_answered_k_before_a_kill_is_in_todo_whole(home: Home) -> None:
    for round_number in range(4):
        server = Server(home)
        accepted: list[bytes] = []
        begun = threading.Semaphore(0)

        def client(
            name: int,
            server: Server = server,
            accepted: list[bytes] = accepted,
            begun: threading.Semaphore = begun,
            round_number: int = round_number,
        ) -> None:
            try:
                with server.connect() as connection:
                    for count in range(10_000):
                        sender = b"%d.%d.%d@x" % (round_number, name, count)
                        if submit(connection, sender * 50, sender, [b"r@me.test"])[:1] == b"K":
                            accepted.append(sender)
                            begun.release()
            except OSError:
                pass  # it was killed: the point of it

        threads = [threading.Thread(target=client, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(20 + 7 * round_number):
            assert begun.acquire(timeout=DEADLINE_S)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        for thread in threads:
            thread.join()
        whole = {}
        for number, envelope in home.queued().items():
            sender = envelope.split(b"\0")[2][1:]
            assert home.message(number).split(b"\n", 1)[1] == sender * 50
            whole[sender] = envelope
        assert set(accepted) <= set(whole)


def test_a_second_resident_waits_for_the_end_of_the_first(server: Server) -> None:
    second = subprocess.Popen(
        [server.home.program("qmail-queue"), "--serve"], env=server.home.environ, stderr=subprocess.PIPE
    )
    assert second.stderr is not None
    assert b"another qmail-queue --serve already runs" in second.stderr.readline()
    with server.connect() as connection:
        assert submit(connection, b"m", b"s@x", [])[:1] == b"K", "the first one still serves"
    assert server.end() == 0
    assert second.stderr.readline() == b"qmail-queue: serving\n"
    with server.connect() as connection:
        assert submit(connection, b"m", b"s@x", [])[:1] == b"K", "now the second one does"
    second.terminate()
    assert second.wait(DEADLINE_S) == 0
    second.stderr.close()


def test_one_with_a_lifeline_refuses_beside_another(server: Server) -> None:
    lifeline_in, lifeline_out = os.pipe()
    done = subprocess.run(
        [server.home.program("qmail-queue"), "--serve", "--lifeline", str(lifeline_in)], env=server.home.environ,
        capture_output=True, timeout=DEADLINE_S, check=False, pass_fds=[lifeline_in],
    )  # fmt: skip
    os.close(lifeline_in)
    os.close(lifeline_out)
    assert done.returncode == 111
    assert b"another qmail-queue --serve already runs" in done.stderr


def test_a_new_resident_takes_over_the_socket_of_a_dead_one(home: Home) -> None:
    assert Server(home).end(signal.SIGKILL) == -signal.SIGKILL
    server = Server(home)
    with server.connect() as connection:
        assert submit(connection, b"m", b"s@x", [])[:1] == b"K"
    assert server.end() == 0


def test_it_ends_with_its_lifeline(home: Home) -> None:
    lifeline_in, lifeline_out = os.pipe()
    server = Server(home, lifeline_fd=lifeline_in)
    os.close(lifeline_in)
    assert server.process.poll() is None
    os.close(lifeline_out)
    assert server.process.wait(DEADLINE_S) == 0
    server.end()


def test_a_home_whose_path_is_too_long_for_a_socket_is_said_so(home: Home) -> None:
    long = home.path.with_name("d" * 110)
    home.path.rename(long)
    done = subprocess.run(
        [long / "bin" / "qmail-queue", "--serve"], env={**home.environ, "QMAILHOME": str(long)}, capture_output=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 111
    assert b"too long" in done.stderr
