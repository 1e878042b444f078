"""deliver/worker_link.py: packets between qmail-lspawn and its workers."""

import pytest

from notqmail.deliver.worker_link import (
    OUTPUT_MAX,
    BadPacket,
    Job,
    bounded_output,
    decode_jobs,
    decode_results,
    encode_jobs,
    encode_result,
)


def _job(slot):
    return Job(slot, b"u", b"/h", b"l", b"-", b"", b"d", b"s@x", b"")


def test_jobs_come_out_as_they_went_in():
    jobs = [_job(0), _job(119), _job(65_535)]
    decoded = decode_jobs(encode_jobs(jobs))
    assert [(job.slot, job.fields()) for job in decoded] == [(job.slot, job.fields()) for job in jobs]


@pytest.mark.parametrize(
    "packet", [b"", b"\0", b"\1", b"\1\0a\0", encode_jobs([_job(1)])[:-1], encode_jobs([_job(1)]) + b"x\0"]
)
def test_a_packet_with_the_wrong_number_of_fields_is_refused(packet):
    with pytest.raises(BadPacket):
        decode_jobs(packet)


def test_results_come_out_as_they_went_in():
    packet = encode_result(0, 0, b"did 1+0+0\n") + encode_result(9, -1, b"") + encode_result(65_535, 255, b"\0x")
    assert list(decode_results(packet)) == [(0, 0, b"did 1+0+0\n"), (9, -1, b""), (65_535, 255, b"\0x")]


@pytest.mark.parametrize(
    "packet", [b"\1", encode_result(1, 0, b"abc")[:-1], encode_result(1, 0, b"x" * (OUTPUT_MAX + 1))]
)
def test_a_result_that_is_cut_or_too_long_is_refused(packet):
    with pytest.raises(BadPacket):
        list(decode_results(packet))


def test_long_output_keeps_its_beginning_and_says_so():
    assert bounded_output(b"x" * OUTPUT_MAX) == b"x" * OUTPUT_MAX
    cut = bounded_output(b"x" * (OUTPUT_MAX + 1))
    assert cut.endswith(b"\nError report too long, sorry.\n") and len(cut) < OUTPUT_MAX
