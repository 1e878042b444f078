"""A scripted SMTP server on loopback, for tests of the remote agent: it answers what the test says, and hears all."""

import socket
import threading

SILENCE = "silence"  # never answer, keep the connection
CLOSE = "close"  # hang up instead of answering


class ScriptedPeer:
    """A context manager. `answers`: by whole command line, else by verb (upper case); bytes, SILENCE or CLOSE; a list
    is used up one by one. b"" is the greeting, b"." the answer to the final dot.

    `heard`: the command lines without line end; `bodies`: what stood between DATA and the final dot, as on the wire.
    """

    def __init__(self, answers=None, *, byte_by_byte=False, family=socket.AF_INET):
        self.answers = {
            b"": b"220 ready\r\n",
            b"DATA": b"354 go ahead\r\n",
            b"EHLO": b"502 what?\r\n",
            **(answers or {}),
        }
        self._byte_by_byte = byte_by_byte
        self._link = socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0), family=family)
        self.port = self._link.getsockname()[1]
        self.heard, self.bodies, self.connections, self.clients = [], [], 0, []
        self._stop = threading.Event()
        self._threads = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._acceptor.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()
        for thread in [self._acceptor, *self._threads]:
            thread.join(60)  # each has then heard all that its client said

    def lose_patience(self):
        """Hangs up where it is silent."""
        self._stop.set()

    def wait_until_heard(self, command, seconds=60):
        """Whether the command comes in time (QUIT comes after the client has reported)."""
        for _ in range(int(seconds * 100)):
            if command in self.heard:
                return True
            self._stop.wait(0.01)
        return False

    def _accept(self):
        while not self._stop.is_set():
            try:
                link, client = self._link.accept()
            except OSError:
                return
            self.connections += 1
            self.clients.append(client)
            thread = threading.Thread(target=self._serve, args=(link,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, link):
        with link, link.makefile("rb") as stream:
            link.settimeout(60)
            try:
                if not self._answer(link, b"", b""):
                    return
                while line := stream.readline():
                    command = line.rstrip(b"\r\n")
                    self.heard.append(command)
                    verb = command.split(b" ")[0].upper()
                    said = b"" if verb == b"QUIT" else self._answer(link, command, verb)
                    if not said or (verb == b"DATA" and said.startswith(b"354") and not self._take_body(link, stream)):
                        return
            except (OSError, ValueError):
                return

    def _take_body(self, link, stream):
        if self.answers.get("in body") == CLOSE:
            stream.readline()
            return False
        lines = []
        while (line := stream.readline()) != b".\r\n" or (lines[-1:] and not lines[-1].endswith(b"\r\n")):
            if not line:
                return False
            lines.append(line)
        self.bodies.append(b"".join(lines))
        return self._answer(link, b".", b".")

    def _answer(self, link, command, verb):
        """Says it; returns what was said, or b"" when the connection is to end."""
        answer = self.answers.get(command, self.answers.get(verb, b"250 ok\r\n"))
        if isinstance(answer, list):
            answer = answer.pop(0)
        if answer == CLOSE:
            return b""
        if answer == SILENCE:
            self._stop.wait(60)
            return b""
        pieces = [answer[i : i + 1] for i in range(len(answer))] if self._byte_by_byte else [answer]
        for piece in pieces:
            link.sendall(piece)
        return answer


class FullHouse:
    """A context manager: a port where a connection is neither accepted nor refused, so that it times out."""

    def __enter__(self):
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        self._guests = [socket.socket() for _ in range(4)]
        for guest in self._guests:
            guest.setblocking(False)
            guest.connect_ex(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_):
        for link in [*self._guests, self._listener]:
            link.close()
