"""Targets: what an administrator writes about filters, and the envelopes that filters write."""

from fuzz_driver import target

from notqmail.control.filters import Unusable, chain_of_words, delivery_chain, filter_timeout_s, words_of_lines
from notqmail.deliver.filters import local_delivery, remote_delivery
from notqmail.receive.qfilter import chosen_program
from notqmail.wire.queue_envelope import BadEnvelope, encode_envelope, parse_envelope


@target("filter-list", b"example.com:", b".example.com:", b":", b"--", b" ", b"\t", b"\n", b"#", b"/", b"\r", b"bin/x")
def lists_of_filters(data: bytes) -> None:
    """A line is a filter or a mistake that is said, never nothing."""
    lines = [line for line in data.split(b"\n") if line.rstrip(b" \t") and not line.startswith(b"#")]
    for domain in (b"example.com", b"a.example.com", b"", data[:9]):
        try:
            chain = delivery_chain({"f": data}.get, "f", domain)
        except Unusable:
            continue
        assert len(chain) <= len(lines) and all(command and all(command) for command in chain)
        unbound = [line for line in lines if b":" not in line]
        assert len(chain) >= len(unbound), "a line without a domain holds for all of them"
    try:
        chain = chain_of_words(words_of_lines(lines))
    except Unusable:
        return
    assert sum(map(len, chain)) == len([word for word in b" ".join(lines).split() if word != b"--"])
    assert filter_timeout_s(lambda _: data) >= 1


@target("filter-envelope", b"F", b"T", b"\0", b"\0\0", b"Fs@x\0", b"Ta@b\0", b"@", b"\n")
def envelopes_of_filters(data: bytes) -> None:
    """What is taken for an envelope says the same when it is written anew, and no beginning of it is one."""
    words = data.split(b"\0")
    for delivery in (remote_delivery(words), local_delivery(words)):
        assert delivery is None or delivery.with_sender(delivery.sender) == words
    assert b"\0" not in chosen_program(data, b"/home", {})
    try:
        sender, recipients = parse_envelope(data)
    except BadEnvelope:
        return
    again = encode_envelope(sender, recipients)
    assert data.startswith(again)
    try:
        parse_envelope(again[:-1])
    except BadEnvelope as bad:
        assert bad.is_cut
    else:
        raise AssertionError("it had an end")
