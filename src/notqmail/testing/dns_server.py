"""A DNS server on loopback that says what a test tells it to, also the wrong things.

    with FakeDnsServer() as server:
        server.records("example.org", "MX", "10 mx.example.org.")
        server.misbehave("slow.example", SILENT)
        resolver = DnsResolver([server.address], try_s=0.2)

UDP and TCP on one port. A name nobody told it about is NXDOMAIN; a name with records of another kind is NODATA.
"""

import selectors
import socket
import threading

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SERVFAIL = "servfail"  # says that it cannot help
REFUSED = "refused"  # says that it does not want to
SILENT = "silent"  # says nothing
TRUNCATED = "truncated"  # the whole answer by TCP only
GARBAGE = "garbage"  # the right id, then nonsense
WRONG_ID = "wrong id"  # a forged answer first, then the true one
OLD = "old"  # FORMERR for a query with EDNS, as servers of the last century
CUT_TCP = "cut tcp"  # truncated, and the TCP answer breaks off


class FakeDnsServer:
    """The server, a context manager. `address`: host and port; `questions`: asked so far, (name, type, "udp"|"tcp")."""

    def __init__(self) -> None:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._bind_both()
        self.address: tuple[str, int] = self._udp.getsockname()
        self.questions: list[tuple[str, str, str]] = []
        self._records: dict[tuple[str, str], tuple[str, ...]] = {}
        self._ttl_s = 60
        self._behaviour: dict[str, str] = {}
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="fake-dns", daemon=True)

    def _bind_both(self) -> None:
        for _ in range(100):  # the port the kernel picks for UDP may be taken for TCP
            self._udp.bind(("127.0.0.1", 0))
            try:
                self._tcp.bind(self._udp.getsockname())
                self._tcp.listen()
                return
            except OSError:
                self._udp.close()
                self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        raise OSError("no port free for both UDP and TCP")

    def records(self, name: str, kind: str, *values: str, ttl_s: int = 60) -> None:
        """What the server knows: `values` as in a zone file, with absolute names. CNAMEs are followed."""
        self._records[name.lower(), kind] = values
        self._ttl_s = ttl_s

    def misbehave(self, name: str, how: str) -> None:
        """How questions about a name go wrong, whatever their kind."""
        self._behaviour[name.lower()] = how

    def __enter__(self) -> "FakeDnsServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake_writer.close()
        self._thread.join()
        for link in (self._udp, self._tcp, self._wake_reader):
            link.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for link in (self._udp, self._tcp, self._wake_reader):
                waiting.register(link, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    if key.fileobj is self._wake_reader:
                        return
                    if key.fileobj is self._udp:
                        self._serve_datagram()
                    else:
                        self._serve_connection()

    def _serve_datagram(self) -> None:
        data, peer = self._udp.recvfrom(65_535)
        for answer in self._answers(data, "udp"):
            self._udp.sendto(answer, peer)

    def _serve_connection(self) -> None:
        link, _ = self._tcp.accept()
        link.settimeout(5)
        with link, link.makefile("rb") as stream:
            data = stream.read(int.from_bytes(stream.read(2), "big"))
            for answer in self._answers(data, "tcp"):
                link.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answers(self, data: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind, transport))
        how = self._behaviour.get(name)
        response = self._truth(query, name, kind)
        if how in (SERVFAIL, REFUSED) or (how == OLD and query.edns >= 0):
            response.answer.clear()
            response.set_rcode({SERVFAIL: dns.rcode.SERVFAIL, REFUSED: dns.rcode.REFUSED}.get(how, dns.rcode.FORMERR))
        wire = response.to_wire(max_size=65_535)
        if how == SILENT:
            return []
        if how == GARBAGE:
            return [wire[:12] + b"\xff" * 20]
        if how == WRONG_ID:
            forged = wire[:-1] + bytes([wire[-1] ^ 1])
            return [bytes([data[0] ^ 0xFF]) + forged[1:], wire]
        if how == CUT_TCP and transport == "tcp":
            return [b""]
        if how in (TRUNCATED, CUT_TCP) and transport == "udp":
            response.answer.clear()
            response.flags |= dns.flags.TC
            return [response.to_wire()]
        return [wire]

    def _truth(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        seen = 0
        while (target := self._records.get((name, "CNAME"))) and seen < 20:
            response.answer.append(dns.rrset.from_text(name + ".", self._ttl_s, "IN", "CNAME", *target))
            name = target[0].rstrip(".").lower()
            seen += 1
        values = self._records.get((name, kind))
        if values:
            for value in values:  # one by one: dnspython shuffles the records of a set
                response.answer.append(dns.rrset.from_text(name + ".", self._ttl_s, "IN", kind, value))
        else:
            if not any(known == name for known, _ in self._records):
                response.set_rcode(dns.rcode.NXDOMAIN)
            soa = "ns.invalid. nobody.invalid. 1 3600 600 86400 30"
            response.authority.append(dns.rrset.from_text("invalid.", 30, "IN", "SOA", soa))
        return response
