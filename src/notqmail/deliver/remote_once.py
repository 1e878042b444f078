"""The one-shot's driver: one job, a blocking socket, a time-out for each read and write, as qmail-remote(8) says."""

from notqmail.deliver.dialogues import dialogue_with, unreachable
from notqmail.deliver.remote import (
    NO_MESSAGE,
    NO_RESOURCES,
    NoResources,
    open_socket,
    without_dialogue,
)
from notqmail.deliver.routes import NoRoute, candidates
from notqmail.unix.resolver import MX

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from notqmail.deliver.dialogues import Dialogue
    from notqmail.deliver.remote import Job, Surroundings
    from notqmail.deliver.routes import Asking, Candidate
    from notqmail.unix.resolver import Resolver
    from notqmail.wire.smtp_client import Outcome

_READ_BYTES = 16_384


class _Unreadable(Exception):
    """The message file failed, not the peer."""


def deliver(
    job: "Job", around: "Surroundings", resolver: "Resolver", search: "Callable[..., Asking]" = candidates
) -> "Outcome":
    """Delivers, or says why not. Whatever the network does is an outcome, not an exception."""
    settings = around.settings
    try:
        found = answered(search(job.host, settings, own=around.own, draw=around.draw), resolver)
        for candidate in found:
            link = connected(candidate, around)
            if link is not None:
                with link:
                    return converse(link, dialogue_with(candidate, settings), job, settings.timeout_s)
    except NoRoute as nowhere:
        return without_dialogue(nowhere.report)
    except NoResources:
        return without_dialogue(NO_RESOURCES)
    return without_dialogue(unreachable(found))


def answered(asking: "Asking", resolver: "Resolver") -> "list[Candidate]":
    """Runs the search for addresses, asking one thing after the other. Raises NoRoute."""
    try:
        questions = next(asking)
        while True:
            ask = {MX: resolver.mx}
            questions = asking.send([ask.get(kind, resolver.addresses)(name) for kind, name in questions])
    except StopIteration as end:
        result: list[Candidate] = end.value
        return result


def connected(candidate: "Candidate", around: "Surroundings") -> "socket.socket | None":
    """A connection, or None: not now, refused or timed out. Only time-outs are remembered against an address."""
    barred, known = around.timeouts.lookup(candidate.address)
    if barred:
        return None
    try:
        link = open_socket(candidate, around.settings.outgoing_ips)
    except OSError:
        return None  # no such family on this machine: no way to this address
    link.settimeout(around.settings.connect_timeout_s)
    established = False
    try:
        link.connect((candidate.address.decode(), candidate.port))
        established = True
    except TimeoutError:
        around.timeouts.note_timeout(candidate.address)
        return None
    except (OSError, OverflowError):  # OverflowError: the route's port is no port
        pass  # refused or unreachable: below
    finally:
        if not established:
            link.close()
    if known:
        around.timeouts.note_answer(candidate.address)
    return link if established else None


def converse(link: "socket.socket", dialogue: "Dialogue", job: "Job", timeout_s: float) -> "Outcome":
    """One transaction on a fresh connection. `timeout_s` is for each read and each write, or less (Dialogue)."""
    link.settimeout(timeout_s)
    session = dialogue.session
    try:
        _send(link, dialogue.begin(job))
        while session.outcome is None:
            if session.wants_body:
                _send_body(link, dialogue, job)
                _send(link, session.after_body())
                continue
            if dialogue.patience_s(timeout_s) < timeout_s:
                link.settimeout(dialogue.patience_s(timeout_s))
            data = link.recv(_READ_BYTES)
            if not data:
                session.connection_died()
                break
            _send(link, session.receive(data))
        _send(link, dialogue.farewell)
    except _Unreadable:
        session.give_up(NO_MESSAGE)
    except OSError:  # TimeoutError is one
        session.connection_died()  # changes nothing when the outcome is known and only QUIT failed
    assert session.outcome is not None
    return session.outcome


def _send_body(link: "socket.socket", dialogue: "Dialogue", job: "Job") -> None:
    pieces = dialogue.body(job.message)
    while True:
        try:
            piece = next(pieces, None)
        except OSError as error:
            raise _Unreadable from error
        if piece is None:
            return
        _send(link, piece)


def _send(link: "socket.socket", data: bytes) -> None:
    """All of it, the time-out counting from each piece the peer took (sendall would count from the start)."""
    view = memoryview(data)
    while view:
        view = view[link.send(view) :]
