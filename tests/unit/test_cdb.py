"""cdb: the format's own bytes, what other programs make of ours, and damaged files."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.unix.cdb import Cdb, Damaged, build_cdb, cdb_hash

RECORDS = [(b"!joe-", b"joe\0001000"), (b"", b"-"), (b"one", b""), (b"one", b"second"), (b"k" * 300, b"d" * 70_000)]


def lookup(data: bytes, key: bytes, place: Path) -> bytes | None:
    (place / "t.cdb").write_bytes(data)
    with Cdb(os.fsencode(place / "t.cdb")) as table:
        return table.get(key)


@pytest.mark.parametrize(("key", "value"), [(b"", 5381), (b"a", 177604), (b"\xff", 177498)])
def test_the_hash_is_the_format_s(key: bytes, value: int) -> None:
    assert cdb_hash(key) == value


def test_one_record_byte_for_byte() -> None:
    """cr.yp.to/cdb/cdb.txt, by hand: `a` hashes to 177604, table 196, and its two slots stand after the record."""
    expected = bytearray()
    for table in range(256):
        expected += struct.pack("<LL", 2048 + 10 + (16 if table > 196 else 0), 2 if table == 196 else 0)
    expected += struct.pack("<LL", 1, 1) + b"ax"
    slots = [(0, 0), (0, 0)]
    slots[(177604 >> 8) % 2] = (177604, 2048)
    for slot in slots:
        expected += struct.pack("<LL", *slot)
    assert build_cdb([(b"a", b"x")]) == bytes(expected)


def test_the_first_of_equal_keys_is_found(tmp_path: Path) -> None:
    data = build_cdb(RECORDS)
    for key, value in dict(reversed(RECORDS)).items():
        assert lookup(data, key, tmp_path) == value
    for missing in (b"!jo", b"two", b"k" * 299):
        assert lookup(data, missing, tmp_path) is None


def test_an_empty_table_has_no_key(tmp_path: Path) -> None:
    assert build_cdb([]) == struct.pack("<LL", 2048, 0) * 256
    assert lookup(build_cdb([]), b"", tmp_path) is None


@given(st.dictionaries(st.binary(max_size=6), st.binary(max_size=6), max_size=60))
def test_everything_put_in_is_found(tmp_path_factory: pytest.TempPathFactory, records: dict[bytes, bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "all.cdb"
    path.write_bytes(build_cdb(records.items()))
    with Cdb(os.fsencode(path)) as table:
        assert {key: table.get(key) for key in records} == records


@pytest.mark.parametrize("length", [0, 1, 7, 2047, 2048, 2050, 2100])
def test_a_file_cut_short_is_damaged_never_a_wrong_answer(length: int, tmp_path: Path) -> None:
    data = build_cdb(RECORDS)
    with pytest.raises(Damaged):
        lookup(data[:length], b"!joe-", tmp_path)


@given(st.binary(max_size=64), st.integers(0, 2_500))
def test_random_damage_raises_damaged_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, place: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.cdb"
    data = bytearray(build_cdb(RECORDS[:4]))
    data[place : place + len(damage)] = damage
    path.write_bytes(data)
    with Cdb(os.fsencode(path)) as table:
        for key, _ in RECORDS:
            try:
                table.get(key)
            except Damaged:
                pass  # the one thing it may raise


def test_a_replaced_file_leaves_an_open_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.cdb"
    path.write_bytes(build_cdb([(b"a", b"old")]))
    with Cdb(os.fsencode(path)) as table:
        (tmp_path / "new").write_bytes(build_cdb([(b"a", b"new")]))
        os.replace(tmp_path / "new", path)
        assert table.get(b"a") == b"old"


@pytest.mark.debian("tcprules")
def test_what_tcprules_makes_is_read_and_is_what_we_would_make(tmp_path: Path) -> None:
    rules = b'127.:allow,RELAYCLIENT="",X="y"\n10.0.0.1:deny\n:allow\n'
    subprocess.run(["tcprules", tmp_path / "theirs.cdb", tmp_path / "tmp"], input=rules, check=True, timeout=60)
    theirs = (tmp_path / "theirs.cdb").read_bytes()
    records = [(b"127.", b"+RELAYCLIENT=\0+X=y\0"), (b"10.0.0.1", b"D"), (b"", b"")]
    with Cdb(os.fsencode(tmp_path / "theirs.cdb")) as table:
        for key, value in records:
            found = table.get(key)
            assert found is not None and found.rstrip(b"\0") == value.rstrip(b"\0")
        ours = build_cdb([(key, table.get(key) or b"") for key, _ in records])
    assert len(ours) == len(theirs)
    assert shutil.which("tcprulescheck")
    (tmp_path / "ours.cdb").write_bytes(ours)
    said = subprocess.run(
        ["tcprulescheck", tmp_path / "ours.cdb"], env={**os.environ, "TCPREMOTEIP": "127.0.0.1"}, capture_output=True,
        check=True, timeout=60,
    )  # fmt: skip
    assert b"set environment variable RELAYCLIENT=" in said.stdout
