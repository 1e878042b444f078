"""Which filters run: command lines and control files; and the envelope that filters read and write."""

from pathlib import Path

import pytest

from notqmail.admin.launchers import launcher_text
from notqmail.control.filters import (
    TIMEOUT_S,
    Unusable,
    chain_of_words,
    delivery_chain,
    filter_timeout_s,
    words_of_lines,
)
from notqmail.unix.launchers import is_ours
from notqmail.wire.queue_envelope import BadEnvelope, encode_envelope, parse_envelope

CHAINS = [
    ("", []),
    ("f", ["f"]),
    ("f a b", ["f a b"]),
    ("f a -- g", ["f a", "g"]),
    ("f -- g -- h x", ["f", "g", "h x"]),
    ("f --", ["f"]),
    ("f - --x ---", ["f - --x ---"]),
]


@pytest.mark.parametrize(("words", "chain"), CHAINS)
def test_a_command_line_is_cut_at_each_double_dash(words: str, chain: list[str]) -> None:
    assert chain_of_words(words.encode().split()) == [command.encode().split() for command in chain]


@pytest.mark.parametrize("words", ["--", "-- f", "f -- -- g", "f -- --"])
def test_nothing_between_two_separators_is_a_mistake_and_not_an_empty_filter(words: str) -> None:
    with pytest.raises(Unusable):
        chain_of_words(words.encode().split())


def test_an_argument_may_be_empty_or_anything_else() -> None:
    assert chain_of_words([b"f", b"", b"a b", b"\xff", b"--", b""]) == [[b"f", b"", b"a b", b"\xff"], [b""]]


def test_lines_of_smtpfilters_are_a_command_line() -> None:
    assert words_of_lines([b"bin/a", b"bin/b  -x\ty"]) == [b"bin/a", b"--", b"bin/b", b"-x", b"y", b"--"]
    assert chain_of_words(words_of_lines([b"bin/a", b"bin/b -x"])) == [[b"bin/a"], [b"bin/b", b"-x"]]
    assert chain_of_words(words_of_lines([])) == []
    with pytest.raises(Unusable):
        chain_of_words(words_of_lines([b"\r"]))


LIST = b"""# signing comes last
bin/all
  /opt/all2 -x 1\t
example.com:bin/com a
.example.com: bin/below
Example.ORG:bin/org
:odd:name
:./x:y z
/a:b c
"""
EVERYWHERE = ["bin/all", "/opt/all2 -x 1", "odd:name", "./x:y z", "/a:b c"]
FOR_DOMAINS = [
    (b"example.com", {3: "bin/com a"}),
    (b"EXAMPLE.com", {3: "bin/com a"}),
    (b"mail.example.com", {3: "bin/below"}),
    (b"a.b.example.com", {3: "bin/below"}),
    (b"anexample.com", {}),
    (b"example.org", {3: "bin/org"}),
    (b"", {}),
    (b"example.net", {}),
]


@pytest.mark.parametrize(("domain", "more"), FOR_DOMAINS)
def test_a_line_holds_for_every_domain_or_for_one_or_for_those_below_one(domain: bytes, more: dict[int, str]) -> None:
    found = [b" ".join(command).decode() for command in delivery_chain({"f": LIST}.get, "f", domain)]
    assert found == [*EVERYWHERE[:2], *more.values(), *EVERYWHERE[2:]]


@pytest.mark.parametrize("text", [b"example.com:", b"example.com:  ", b":", b"bin/a\n:\n", b"\r\n", b" \x0b"])
def test_a_line_without_a_program_is_a_mistake_whatever_the_domain(text: bytes) -> None:
    with pytest.raises(Unusable):
        delivery_chain({"f": text}.get, "f", b"other.example")


@pytest.mark.parametrize("text", [None, b"", b"\n\n", b"# bin/a\n"])
def test_no_file_and_an_empty_one_mean_no_filter(text: bytes | None) -> None:
    assert delivery_chain(lambda _: text, "f", b"x") == []


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, TIMEOUT_S), (b"7\n", 7), (b"0\n", 1), (b"x", TIMEOUT_S), (b"90 s", 90)]
)
def test_the_time_for_a_filter_is_never_nothing(text: bytes | None, seconds: int) -> None:
    assert filter_timeout_s(lambda _: text) == seconds


ENVELOPES = [
    (b"F\0\0", b"", []),
    (b"Fs@x\0Ta@b\0Tc@d\0\0", b"s@x", [b"a@b", b"c@d"]),
    (b"Fs\n\xff\0T\0TT\0\0", b"s\n\xff", [b"", b"T"]),
    (b"F#@[]\0Ta\0\0what follows is not looked at\0", b"#@[]", [b"a"]),
]


@pytest.mark.parametrize(("data", "sender", "recipients"), ENVELOPES)
def test_an_envelope(data: bytes, sender: bytes, recipients: list[bytes]) -> None:
    assert parse_envelope(data) == (sender, recipients)
    assert data.startswith(encode_envelope(sender, recipients))


@pytest.mark.parametrize(
    "data", [b"\0", b"\0\0", b"X\0\0", b"Ta\0\0", b"x", b"F\0x\0\0", b"Fs\0Fs\0\0", b"Fs\0Q\0\0", b"F\0q"]
)
def test_what_is_no_envelope(data: bytes) -> None:
    with pytest.raises(BadEnvelope) as caught:
        parse_envelope(data)
    assert not caught.value.is_cut


@pytest.mark.parametrize("end", range(len(b"Fs@x\0Ta@b\0Tc\0")))
def test_an_envelope_that_ends_early_anywhere_is_never_taken_for_one(end: int) -> None:
    whole = b"Fs@x\0Ta@b\0Tc\0\0"
    assert parse_envelope(whole) == (b"s@x", [b"a@b", b"c"])
    with pytest.raises(BadEnvelope) as caught:
        parse_envelope(whole[:end])
    assert caught.value.is_cut


LAUNCHERS = [
    ("qmail-remote", b"qmail-remote", True),
    ("qmail-rfilter", b"qmail-remote", False),
    ("qmail-qfilter-queue", b"qmail-queue", False),
    ("qmail-queue", b"qmail-queue", True),
    ("except", b"except", True),
    ("qmail-rfilter", b"", True),
]


@pytest.mark.parametrize(("program", "asked", "answer"), LAUNCHERS)
@pytest.mark.parametrize("interpreter", [b"/usr/bin/python3", b"/a path/python3"])
def test_a_filter_of_ours_in_another_program_s_place_is_not_that_program(
    tmp_path: Path, program: str, asked: bytes, answer: bool, interpreter: bytes
) -> None:
    path = tmp_path / "launcher"
    path.write_bytes(launcher_text(program, b"/var/qmail", interpreter=interpreter, directories=["/" + "d" * 900]))
    assert is_ours(bytes(path), asked) is answer
