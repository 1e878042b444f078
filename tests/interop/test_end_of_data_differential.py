"""Where does a message end? The same bytes for us and for others; docs/reference/end-of-data.md says what each does.

For each row of the table there: `ends` (the message was over: what comes next is commands), `data` (it goes on, to a
true end), `refused`. A row in which somebody disagrees with us is explained there; this test holds the page to what
happens. A server whose version is not the page's is skipped: it may have learned.
"""

import re
import select
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_of_data_servers import SERVERS, missing, upstream
from interop_peers import Receiver
from interop_system import System

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "end-of-data.md"
VARIANTS = {
    "CRLF . CRLF": b"\r\n.\r\n",
    "LF . LF": b"\n.\n",
    "LF . CRLF": b"\n.\r\n",
    "CRLF . LF": b"\r\n.\n",
    "CR . CR": b"\r.\r",
    "CR . CRLF": b"\r.\r\n",
    "CR . LF": b"\r.\n",
    "LF . CR": b"\n.\r",
    "CRLF . CR": b"\r\n.\r",
    "CR CRLF . CR CRLF": b"\r\r\n.\r\r\n",
    "CR CRLF . CRLF": b"\r\r\n.\r\n",
    "CRLF . CR CRLF": b"\r\n.\r\r\n",
    "LF LF . CRLF": b"\n\n.\r\n",
    "CRLF .. CRLF": b"\r\n..\r\n",
    "CRLF NUL . CRLF": b"\r\n\0.\r\n",
    "CRLF . NUL CRLF": b"\r\n.\0\r\n",
    "CRLF . blank CRLF": b"\r\n. \r\n",
    "CRLF blank . CRLF": b"\r\n .\r\n",
    "LF CR . LF CR": b"\n\r.\n\r",
    "CRLF . CR LF in two packets": b"\r\n.\r",  # sent with its LF behind it
}
_TIMEOUT_S = 60.0
_SILENCE_S = 0.4


def outcome(port: int, recipient: str, name: str) -> str:
    """What this server makes of this ending."""
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as link, link.makefile("rb") as heard:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert _code(heard) == b"220"
        for command in ("EHLO client.test", "MAIL FROM:<a@client.test>", f"RCPT TO:<{recipient}>", "DATA"):
            link.sendall(command.encode() + b"\r\n")
            code = _code(heard)
            assert code == (b"354" if command == "DATA" else b"250"), (command, code)
        link.sendall(b"From: a@client.test\r\nSubject: x\r\n\r\nfirst" + VARIANTS[name])
        if name.endswith("packets"):
            link.sendall(b"\n")
        return _judged(link, heard)


def _judged(link: socket.socket, heard: "socket.SocketIO") -> str:
    """An answer without being given an end: it has ended, or was refused. Silence: an end is given, and answered."""
    if not select.select([link], [], [], _SILENCE_S)[0]:
        link.sendall(b"\r\n.\r\n")
        if _code(heard)[:1] != b"2":
            return "refused"
        link.sendall(b"QUIT\r\n")
        return "data" if _codes(heard) == [b"221"] else "ends"  # that was only slow, and takes the end for commands
    return "ends" if _code(heard)[:1] == b"2" else "refused"


def _codes(heard: "socket.SocketIO") -> list[bytes]:
    codes = []
    try:
        while code := _code(heard):
            codes.append(code)
    except (ConnectionResetError, TimeoutError):
        pass  # some hang up hard after a refusal
    return codes


def _code(heard: "socket.SocketIO") -> bytes:
    """The code of one reply, b"" at the end."""
    while line := heard.readline():
        if line[3:4] != b"-":
            return line[:3]
    return b""


def table() -> dict[str, dict[str, str]]:
    """server -> variant -> what the page says."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    head, body = rows[0], rows[2:]
    return {server: {row[0]: row[number] for row in body} for number, server in enumerate(head) if number}


def documented_version(server: str) -> str:
    found = re.search(rf"^- {re.escape(server)} (\S+)", PAGE.read_text(), re.MULTILINE)
    assert found, f"the page does not say which version of {server} it is about"
    return found[1].rstrip(":;,.")


def hold_to_the_page(server: str, port: int, recipient: str) -> None:
    found = {name: outcome(port, recipient, name) for name in VARIANTS}
    assert found == table()[server]


def test_the_page_has_all_variants_and_explains_each_disagreement() -> None:
    page = table()
    ours = page["notqmail"]
    assert list(ours) == list(VARIANTS)
    assert [name for name, what in ours.items() if what == "ends"] == ["CRLF . CRLF", "CR CRLF . CRLF", VARIANTS_SPLIT]
    explanations = PAGE.read_text().partition("## Who disagrees, and why")[2]
    for server, rows in page.items():
        if any(what != ours[name] for name, what in rows.items()):
            assert f"**{server}" in explanations, server


VARIANTS_SPLIT = "CRLF . CR LF in two packets"


@pytest.fixture
def ours(system: System) -> Iterator[System]:
    """Our server; nothing needs to be delivered."""
    system.start(send=False)
    yield system


def test_we_end_a_message_where_the_page_says(ours: System) -> None:
    hold_to_the_page("notqmail", ours.smtp_port, ours.address)


def test_postfix_ends_a_message_where_the_page_says(postfix_server: Receiver) -> None:
    import postfix

    _same_version("Postfix", postfix.version())
    hold_to_the_page("Postfix", postfix_server.port, postfix_server.address)


@pytest.mark.parametrize("server", SERVERS)
def test_others_end_a_message_where_the_page_says(server: str, short_directory: Path) -> None:
    package, root, start = SERVERS[server]
    if why := missing(package, root=root):
        pytest.skip(why)
    if server == "chasquid" and not shutil.which("openssl"):
        pytest.skip("chasquid needs openssl to make it a certificate")
    _same_version(server, upstream((Path(__file__).parents[2] / ".foreign" / package / "version").read_text()))
    base = short_directory / package
    base.mkdir()
    running = start(base)
    try:
        hold_to_the_page(server, running.port, "c@here.test")
    finally:
        running.stop()


def _same_version(server: str, version: str) -> None:
    if version != documented_version(server):
        pytest.skip(f"the page is about {server} {documented_version(server)}, here is {version}")
