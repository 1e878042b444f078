"""qmail-send's log: every line arrives, however the logger reads."""

import os
import threading

from notqmail.send.log import Log


def test_a_full_pipe_is_waited_for_even_when_it_does_not_block() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = Log(writer)
    lines = [b"line %d of many, with some text so that the pipe fills up" % number for number in range(5_000)]
    got = bytearray()

    def read() -> None:
        while chunk := os.read(reader, 4_096):
            got.extend(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    for line in lines:
        log.line(line)
    log.flush()
    os.close(writer)
    thread.join()
    os.close(reader)
    assert bytes(got) == b"".join(line + b"\n" for line in lines)


def test_a_logger_that_is_gone_costs_lines_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = Log(writer)
    log.line(b"to nobody")
    log.flush()
    log.alert(b"to nobody either")
    os.close(writer)
