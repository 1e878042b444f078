"""tcp-env: what it tells its program about a connection, and the ident answers it believes."""

import socket
import threading
from collections.abc import Iterator

import pytest

from notqmail.receive.tcp_env import Wishes, ask_ident, ends_of, host_name, reverse_name, tcp_environment
from notqmail.unix.leaving import Leaving
from notqmail.unix.resolver import HARD, SOFT, Answer, found
from notqmail.wire.ident import ANSWER_MAX, NAME_MAX, IdentAnswer, question


class Pointers:
    """A resolver that knows some names."""

    def __init__(self, **names: Answer) -> None:
        self._names = {name.replace("_", ".").encode(): answer for name, answer in names.items()}

    def pointers(self, reverse_name: bytes) -> Answer:
        return self._names.get(reverse_name, Answer(HARD))


LOCAL, REMOTE = (b"10.0.0.1", 25), (b"10.0.0.2", 40_000)
LOCAL_NAME, REMOTE_NAME = "1.0.0.10.in-addr.arpa", "2.0.0.10.in-addr.arpa"
WHO = {b"PROTO": b"TCP", b"TCPLOCALIP": b"10.0.0.1", b"TCPLOCALPORT": b"25", b"TCPREMOTEIP": b"10.0.0.2",
       b"TCPREMOTEPORT": b"40000"}  # fmt: skip
SOFT_ANSWER = Answer(SOFT)


@pytest.mark.parametrize(
    ("names", "info", "more"),
    [
        ({}, None, {}),
        ({REMOTE_NAME: found(b"Mail.Example")}, b"joe", {b"TCPREMOTEHOST": b"mail.example", b"TCPREMOTEINFO": b"joe"}),
        ({LOCAL_NAME: found(b"Us.Example", b"other")}, b"", {b"TCPLOCALHOST": b"us.example", b"TCPREMOTEINFO": b""}),
        ({LOCAL_NAME: SOFT_ANSWER, REMOTE_NAME: SOFT_ANSWER}, b"a\0b",
         {b"TCPLOCALHOST": b"softdnserror", b"TCPREMOTEHOST": b"softdnserror", b"TCPREMOTEINFO": b"a"}),
    ],
)  # fmt: skip
def test_the_environment_says_what_is_known_and_nothing_else(
    names: dict[str, Answer], info: bytes | None, more: dict[bytes, bytes]
) -> None:
    asked = []

    def ident(local: tuple[bytes, int], remote: tuple[bytes, int], timeout_s: float) -> bytes | None:
        asked.append((local, remote, timeout_s))
        return info

    before = {b"PATH": b"/bin", b"TCPREMOTEHOST": b"a lie", b"TCPREMOTEINFO": b"a lie", b"TCPLOCALHOST": b"a lie"}
    told = tcp_environment(
        before, Wishes([b"-t5", b"prog"]), local=LOCAL, remote=REMOTE, resolver=Pointers(**names), ask_ident=ident
    )
    assert told == {b"PATH": b"/bin", **WHO, **more}
    assert asked == [(LOCAL, REMOTE, 5)]


def test_ident_is_not_asked_with_capital_r() -> None:
    def never(*_: object) -> bytes:
        raise AssertionError

    told = tcp_environment({}, Wishes([b"-R", b"p"]), local=LOCAL, remote=REMOTE, resolver=Pointers(), ask_ident=never)
    assert told == WHO


@pytest.mark.parametrize(
    ("words", "ask", "timeout_s", "program"),
    [
        ([b"p"], True, 30, [b"p"]),
        ([b"-R", b"p", b"-r"], False, 30, [b"p", b"-r"]),
        ([b"-Rr", b"p"], True, 30, [b"p"]),
        ([b"-t", b"7", b"p"], True, 7, [b"p"]),
        ([b"-Rt7x", b"p"], False, 7, [b"p"]),
        ([b"-t", b"x", b"p"], True, 0, [b"p"]),
        ([b"-t" + b"9" * 400, b"p"], True, 86_400, [b"p"]),
        ([b"-xRq", b"--", b"-p"], False, 30, [b"-p"]),
        ([b"-", b"p"], True, 30, [b"-", b"p"]),
    ],
)
def test_options_unknown_ones_are_passed_over(
    words: list[bytes], ask: bool, timeout_s: int, program: list[bytes]
) -> None:
    wishes = Wishes(words)
    assert (wishes.ask_ident, wishes.timeout_s, wishes.program) == (ask, timeout_s, program)


@pytest.mark.parametrize("words", [[], [b"-R"], [b"-t"], [b"-t", b"5"], [b"--"], [b"--help", b"--"][:1]])
def test_without_a_program_it_says_nothing_to_the_client(words: list[bytes]) -> None:
    with pytest.raises(Leaving) as raised:
        Wishes(words)
    assert (raised.value.code, raised.value.line) == (111, None)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (b"1.2.3.4", b"4.3.2.1.in-addr.arpa"),
        (b"::1", b"1." + b"0." * 31 + b"ip6.arpa"),
        (b"2001:db8::2:ab", b"b.a.0.0.2.0.0.0." + b"0." * 16 + b"8.b.d.0.1.0.0.2.ip6.arpa"),
        (b"fe80::1%eth0", b"1." + b"0." * 28 + b"8.e.f.ip6.arpa"),
    ],
)
def test_the_name_to_ask_for_is_the_address_backwards(address: bytes, name: bytes) -> None:
    assert reverse_name(address) == name
    assert host_name(address, Pointers(**{name.decode(): found(b"X")})) == b"x"


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            yield client, server


def test_a_descriptor_knows_its_ends_and_stays_open(connection: tuple[socket.socket, socket.socket]) -> None:
    client, server = connection
    for _ in range(2):
        local, remote = ends_of(server.fileno())
        assert local == (b"127.0.0.1", server.getsockname()[1])
        assert remote == (b"127.0.0.1", client.getsockname()[1])


def test_an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        server, _ = listener.accept()
        with client, server:
            assert ends_of(server.fileno())[1] == (b"127.0.0.1", client.getsockname()[1])


def test_what_is_no_tcp_connection_is_refused() -> None:
    left, right = socket.socketpair()
    with left, right, pytest.raises(OSError, match="not a TCP connection"):
        ends_of(left.fileno())
    with open("/dev/null") as file, pytest.raises(OSError):
        ends_of(file.fileno())


ANSWERS = [
    (b"1 , 2 : USERID : UNIX : joe \r\n", b"joe"),
    (b"1,2:USERID:UNIX:jo:e\r\nmore", b"jo:e"),
    (b"1,2:ERROR:NO-USER\r\n", b""),
    (b"\n", b""),
    (b"1,2:USERID:X:a\0b\xe9\n", b"a\0b\xe9"),
    (b"1,2:USERID:X:" + b"a" * NAME_MAX, b"a" * NAME_MAX),
    (b"1,2:USERID:X:" + b"a" * 2_000 + b"\n", b"a" * NAME_MAX),
    (b"1,2:USERID:X:joe", None),
    (b"", None),
    (b" " * (ANSWER_MAX - 2) + b"\n", b""),
]


def read(pieces: list[bytes]) -> bytes | None:
    reader = IdentAnswer()
    for piece in pieces:
        name = reader.receive(piece)
        if name is not None:
            return name
    return None


@pytest.mark.parametrize(("answer", "name"), ANSWERS)
def test_a_name_is_what_stands_behind_the_third_colon(answer: bytes, name: bytes | None) -> None:
    assert read([answer]) == name
    assert read([answer[at : at + 1] for at in range(len(answer))]) == name
    for cut in range(1, min(len(answer), 60)):
        assert read([answer[:cut], answer[cut:]]) == name


@pytest.mark.parametrize("answer", [b" " * ANSWER_MAX + b"\n", b"1" * 100_000, b":::" + b"\r" * 100_000])
@pytest.mark.parametrize("cut", [200_000, 1_000, 7])
def test_an_answer_does_not_go_on_for_ever(answer: bytes, cut: int) -> None:
    with pytest.raises(ValueError, match="too long"):
        read([answer[at : at + cut] for at in range(0, len(answer), cut)])


def test_the_question_names_both_ports() -> None:
    assert question(40_000, 25) == b"40000 , 25\r\n"


class IdentServer:
    """Answers one question on a port of its own."""

    def __init__(self, answer: bytes | None) -> None:
        self.question, self._answer = b"", answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        link, _ = self._listener.accept()
        with link:
            while not self.question.endswith(b"\n") and (data := link.recv(100)):
                self.question += data
            if self._answer is not None:
                link.sendall(self._answer)
            else:
                link.recv(100)  # says nothing until the other side has had enough

    def end(self) -> None:
        self._thread.join(60)
        self._listener.close()


@pytest.mark.parametrize(
    ("answer", "timeout_s", "name"),
    [(b"1,2:USERID:UNIX:joe\r\n", 20, b"joe"), (b"1,2:USERID", 20, None), (b"", 20, None), (None, 1.0, None)],
)
def test_the_client_s_machine_is_asked(answer: bytes | None, timeout_s: float, name: bytes | None) -> None:
    server = IdentServer(answer)
    try:
        asked = ask_ident((b"127.0.0.1", 25), (b"127.0.0.1", 999), timeout_s, port=server.port)
    finally:
        server.end()
    assert asked == name
    assert server.question == b"999 , 25\r\n"


def test_a_machine_without_ident_has_nothing_to_say(free_port: int) -> None:
    assert ask_ident((b"127.0.0.1", 25), (b"127.0.0.1", 999), 20, port=free_port) is None
