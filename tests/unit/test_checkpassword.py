"""control/passwords.py, fetch/passwords.py, fetch/logins.py, fetch/checkpassword.py: who may come in."""

import hashlib
import os
import pwd
from types import SimpleNamespace

import pytest

from notqmail.control.passwords import Damaged, ScryptHash, parse_passwords, parse_scrypt
from notqmail.fetch import checkpassword, logins, passwords
from notqmail.fetch.checkpassword import Leave
from notqmail.fetch.logins import Doorman
from notqmail.fetch.passwords import CannotJudge
from notqmail.fetch.secret import overwrite

SECRET = b"correct horse: battery"
# Small costs, for the tests' sake.
CHEAP = ScryptHash(4, 8, 1, b"0123456789abcdef", b"")
OURS = ScryptHash(4, 8, 1, CHEAP.salt, hashlib.scrypt(SECRET, salt=CHEAP.salt, n=16, r=8, p=1, dklen=32)).encode()
# The first vector of SHA-crypt's specification (Ulrich Drepper, 2008).
CRYPT = b"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
ME = pwd.getpwuid(os.geteuid())

# -- the record on descriptor 3 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "login", "password"),
    [
        (b"joe\0secret\0<1.2@h>\0", b"joe", b"secret"),
        (b"joe\0secret\0", b"joe", b"secret"),
        (b"joe\0secret\0\0", b"joe", b"secret"),
        (b"\0\0\0", b"", b""),
        (b"a\0b\0c\0more", b"a", b"b"),
        (b"\xff\0\xfe\n:\0", b"\xff", b"\xfe\n:"),
    ],
)
def test_a_record_has_a_login_and_a_password(record, login, password):
    assert checkpassword.split_record(bytearray(record)) == (login, bytearray(password))


@pytest.mark.parametrize("record", [b"", b"joe", b"joe\0", b"joe\0secret", b"joe\0secret\0stamp", b"\0"])
def test_a_record_that_is_cut_short_is_misuse(record):
    with pytest.raises(Leave) as left:
        checkpassword.split_record(bytearray(record))
    assert left.value.code == 2


def read_in_pieces(*pieces):
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for piece in pieces:
            ours.send(piece)
        ours.shutdown(socket.SHUT_WR)
        return checkpassword.read_record(theirs.fileno())


def test_a_record_is_read_to_its_end_however_it_comes():
    record = b"joe\0secret\0<1.2@h>\0"
    for cut in range(1, len(record)):
        assert read_in_pieces(record[:cut], record[cut:]) == record
    assert read_in_pieces(b"x" * 512) == b"x" * 512


def test_more_than_512_bytes_are_no_login():
    with pytest.raises(Leave) as left:
        read_in_pieces(b"x" * 500, b"x" * 13)
    assert left.value.code == 1


def test_a_descriptor_that_is_not_open_is_trouble():
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(Leave) as left:
        checkpassword.read_record(reader)
    assert left.value.code == 111


# -- control/passwords -----------------------------------------------------------------------------------------------


def test_the_file_s_lines():
    text = b"# who may\n\njoe:" + OURS + b"\njoe@x.test:" + CRYPT + b":alice\n\xff:!\n"
    entries = parse_passwords(text)
    assert [(e.login, e.hash, e.account) for e in entries] == [
        (b"joe", OURS, b"joe"), (b"joe@x.test", CRYPT, b"alice"), (b"\xff", b"!", b"\xff"),
    ]  # fmt: skip
    assert parse_passwords(text[:-1])[2].hash == b"!"


@pytest.mark.parametrize(
    "line", [b"joe", b":hash", b"joe:", b"joe:hash:", b"a:b:c:d", b" ", b"joe:\0", b"::", b"a:b\0"]
)
def test_a_line_that_means_nothing_damages_the_file(line):
    with pytest.raises(Damaged, match="line 3"):
        parse_passwords(b"joe:x\n\n" + line + b"\n")


def test_a_hash_of_ours_goes_there_and_back():
    found = parse_scrypt(OURS)
    assert (found.log_n, found.r, found.p, found.salt, len(found.key)) == (4, 8, 1, CHEAP.salt, 32)
    assert found.encode() == OURS


@pytest.mark.parametrize(
    "bad",
    [
        b"$scrypt$", b"$scrypt$ln=4,r=8,p=1$MDEy", OURS + b"$", OURS[:-1], OURS.replace(b"ln=4", b"ln=0"),
        OURS.replace(b"ln=4", b"ln=21"), OURS.replace(b"r=8", b"r=9999"), OURS.replace(b"p=1", b"p=17"),
        OURS.replace(b"p=1", b"p=1,x=1"), OURS.replace(b",p=1", b""), OURS.replace(b"r=8,p=1", b"p=1,r=8"),
        OURS.replace(b"ln=4", b"ln=-4"), OURS.replace(b"ln=4", b"ln=4 "), OURS + b"=", OURS[:-5], OURS[:-1] + b"*",
        OURS[:-30], OURS + b"A" * 80, OURS.replace(b"ln=4", b"ln=99999999999"),
        OURS.replace(b"ln=4,r=8", b"ln=20,r=8"),
    ],
)  # fmt: skip
def test_a_hash_that_cannot_be_understood_is_trouble_and_no_refusal(bad):
    with pytest.raises(CannotJudge):
        passwords.matches(bad, bytearray(SECRET))


def hash_with(log_n=4, r=8, p=1, key=bytes(32)):
    return ScryptHash(log_n, r, p, CHEAP.salt, key).encode()


@pytest.mark.parametrize(
    ("fine", "too_much"),
    [
        (hash_with(p=16), hash_with(p=17)),
        (hash_with(log_n=19, r=1), hash_with(log_n=20, r=1)),  # 128 bytes more than 128 MiB
        (hash_with(r=8_160, log_n=1), hash_with(r=10_000, log_n=1)),
        (hash_with(key=bytes(16)), hash_with(key=bytes(15))),
        (hash_with(key=bytes(64)), hash_with(key=bytes(65))),
        (hash_with(log_n=16, r=15, p=16), hash_with(log_n=16, r=16, p=16)),  # 128 MiB and some
    ],
)
def test_the_costs_that_a_login_may_have_end_here(fine, too_much):
    assert parse_scrypt(fine).encode() == fine
    with pytest.raises(Damaged):
        parse_scrypt(too_much)


# -- hashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "password"), [(OURS, SECRET), (CRYPT, b"Hello world!"), (b"$1$abcd$R8mrqUZsFvbPGkvsWNIsl1", None)]
)
def test_the_right_password_and_wrong_ones(stored, password):
    if password is not None:
        assert passwords.matches(stored, bytearray(password))
        assert not passwords.matches(stored, bytearray(password + b"!"))
        assert not passwords.matches(stored, bytearray(password[:-1]))
        assert not passwords.matches(stored, bytearray(password + b"\0"))
    assert not passwords.matches(stored, bytearray(b""))


def test_scrypt_agrees_with_its_specification():
    """The first vector of RFC 7914, section 12."""
    key = bytes.fromhex(
        "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
        "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"
    )
    assert passwords._scrypt(ScryptHash(4, 1, 1, b"", b""), bytearray(), 64) == key


@pytest.mark.parametrize("stored", [b"", b"!", b"*", b"!" + CRYPT, b"*0", b"x\0y", b"$6$", b"x", b"$nothing$known"])
def test_what_is_no_hash_matches_nothing(stored):
    for password in (b"", b"x", b"!", b"*0"):
        assert not passwords.matches(stored, bytearray(password))


def test_a_new_hash_is_one_of_its_password_with_the_costs_we_promise():
    made = passwords.new_hash(bytearray(SECRET), b"s" * 16)
    assert made.startswith(b"$scrypt$ln=14,r=8,p=5$")
    assert passwords.matches(made, bytearray(SECRET)) and not passwords.matches(made, bytearray(b"other"))


def test_what_computing_for_nothing_computes_with_is_a_hash_of_ours():
    assert parse_scrypt(passwords._NOBODY).encode() == passwords._NOBODY


def test_a_machine_without_crypt_has_trouble(monkeypatch):
    monkeypatch.setattr(passwords, "_function", lambda name: None)
    with pytest.raises(CannotJudge):
        passwords.matches(CRYPT, bytearray(b"x"))
    assert passwords.crypt_setting() is None


# -- who is let in ---------------------------------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch):
    """How many hashes were computed, and for what: the time that it takes is the same whatever was wrong."""
    kinds = []
    scrypt, crypt = passwords._scrypt, passwords._crypt
    monkeypatch.setattr(passwords, "_scrypt", lambda *given: kinds.append("scrypt") or scrypt(*given))
    monkeypatch.setattr(passwords, "_crypt", lambda *given: kinds.append("crypt") or crypt(*given))
    return kinds


@pytest.fixture
def home(tmp_path):
    (tmp_path / "control").mkdir()
    (tmp_path / "queue" / "info").mkdir(parents=True)
    return tmp_path


def password_file(home, text):
    path = home / "control" / "passwords"
    path.write_bytes(text)
    path.chmod(0o600)
    return path


def admit(home, login, password, shadow=lambda name: None, now_s=0):
    return Doorman(os.fsencode(home), now_s, shadow).admit(login, bytearray(password))


def test_in_a_single_user_home_everybody_in_the_file_becomes_its_owner(home, computed):
    password_file(home, b"joe@x.test:" + OURS + b":whoever\nann:" + CRYPT + b"\nlocked:!\n")
    for login, password in ((b"joe@x.test", SECRET), (b"ann", b"Hello world!")):
        account = admit(home, login, password)
        assert account is not None
        assert (account.name, account.uid, account.home) == (ME.pw_name.encode(), os.geteuid(), os.fsencode(home))
    computed.clear()
    for login in (b"joe@x.test", b"JOE@X.TEST", b"nobody", b"", b"locked"):
        assert admit(home, login, b"wrong") is None
    assert computed == ["scrypt"] * 5


def test_a_login_that_does_not_exist_takes_as_long_as_the_file_s_others(home, computed):
    password_file(home, b"gone:!\nann:" + CRYPT + b"\n")
    assert admit(home, b"nobody", b"x") is None
    password_file(home, b"")
    assert admit(home, b"nobody", b"x") is None
    assert computed == ["crypt", "scrypt"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_not_used(home, mode):
    password_file(home, b"joe:" + OURS + b"\n").chmod(mode)
    with pytest.raises(CannotJudge, match="chmod 600"):
        admit(home, b"joe", SECRET)


def test_a_file_that_cannot_be_used_is_trouble(home):
    with pytest.raises(CannotJudge, match="missing"):
        admit(home, b"joe", SECRET)
    path = password_file(home, b"joe\n")
    with pytest.raises(CannotJudge, match="line 1"):
        admit(home, b"joe", SECRET)
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(CannotJudge):
        admit(home, b"joe", SECRET)
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(CannotJudge, match="no file"):
        admit(home, b"joe", SECRET)
    path.unlink()
    path.symlink_to("passwords")
    with pytest.raises(CannotJudge):
        admit(home, b"joe", SECRET)


@pytest.fixture
def classic(home, monkeypatch):
    """A home of somebody else's, and accounts alice, bob and root."""
    people = {
        "alice": pwd.struct_passwd(("alice", "x", 1001, 1002, "", "/people/alice", "/bin/zsh")),
        "bob": pwd.struct_passwd(("bob", CRYPT.decode(), 1003, 1003, "", "/people/bob", "")),
        "root": pwd.struct_passwd(("root", "x", 0, 0, "", "/root", "/bin/sh")),
    }
    monkeypatch.setattr(logins, "is_single_user", lambda home: False)
    monkeypatch.setattr(logins, "pwd", SimpleNamespace(getpwnam=people.__getitem__))
    return home


def shadow(name):
    return {b"alice": (CRYPT, -1), b"root": (CRYPT, -1)}.get(name)


def test_the_system_s_accounts_are_asked_where_there_is_no_file(classic, computed):
    account = admit(classic, b"alice", b"Hello world!", shadow)
    assert account is not None
    assert (account.name, account.uid, account.gid, account.home, account.shell) == (
        b"alice", 1001, 1002, b"/people/alice", b"/bin/zsh",
    )  # fmt: skip
    without_shadow = admit(classic, b"bob", b"Hello world!", shadow)
    assert without_shadow is not None and without_shadow.shell == b"/bin/sh"
    assert admit(classic, b"alice", b"Hello world", shadow) is None
    assert admit(classic, b"nobody-here", b"Hello world!", shadow) is None
    assert admit(classic, b"root", b"Hello world!", shadow) is None, "nobody becomes root over the network"
    assert len(computed) == 5


@pytest.mark.parametrize(("expires_day", "is_admitted"), [(-1, True), (11, True), (10, False), (0, False)])
def test_an_expired_account_is_closed(classic, computed, expires_day, is_admitted):
    account = admit(classic, b"alice", b"Hello world!", lambda name: (CRYPT, expires_day), now_s=10 * 86_400 + 5)
    assert (account is not None) == is_admitted
    assert len(computed) == 1


@pytest.mark.parametrize("stored", [b"", b"!", b"*", b"!!", b"!" + CRYPT, b"x"])
def test_an_account_without_a_password_is_closed(classic, computed, stored):
    for password in (b"", b"x", b"Hello world!"):
        assert admit(classic, b"alice", password, lambda name: (stored, -1)) is None
    assert len(computed) == 3


def test_the_file_decides_alone_where_there_is_one(classic):
    password_file(classic, b"post:" + OURS + b":alice\nroot:" + OURS + b"\nlost:" + OURS + b"\n")
    account = admit(classic, b"post", SECRET, shadow)
    assert account is not None and account.name == b"alice"
    assert admit(classic, b"alice", b"Hello world!", shadow) is None
    assert admit(classic, b"root", SECRET, shadow) is None
    with pytest.raises(CannotJudge, match="no account lost"):
        admit(classic, b"lost", SECRET, shadow)


def test_a_name_that_no_account_can_have_is_nobody(home, monkeypatch):
    monkeypatch.setattr(logins, "is_single_user", lambda home: False)
    for name in (b"", b"\xff\xfe", b"no such user", b"a" * 300):
        assert admit(home, name, b"x", shadow) is None


def test_shadow_passwords_are_looked_up_by_the_c_library():
    """Root finds an entry or none; anybody else finds none, or is told that looking needs root."""
    try:
        found = logins.system_shadow(b"root")
    except CannotJudge as trouble:
        assert os.geteuid() != 0 and "by root" in str(trouble)
    else:
        assert found is None or (isinstance(found[0], bytes) and isinstance(found[1], int))
    if os.geteuid() == 0:
        assert logins.system_shadow(b"no-such-account-here") is None


def test_overwriting_keeps_the_length():
    data = bytearray(b"secret")
    overwrite(data)
    assert data == bytes(6)


def test_a_file_that_cannot_be_opened_is_trouble_and_not_an_empty_one(home):
    (home / "control" / "passwords").symlink_to("passwords")
    with pytest.raises(CannotJudge, match="control/passwords: "):
        admit(home, b"joe", SECRET)


@pytest.mark.parametrize(
    ("euid", "shown", "stored"), [(1_000, "x", CannotJudge), (1_000, CRYPT.decode(), CRYPT), (0, "x", b"x")]
)
def test_who_may_not_see_the_shadow_passwords_does_not_take_their_place_for_one(monkeypatch, home, euid, shown, stored):
    monkeypatch.setattr(logins.os, "geteuid", lambda: euid)
    doorman = Doorman(os.fsencode(home), 0, lambda name: None)
    found = SimpleNamespace(pw_name="joe", pw_passwd=shown)
    if stored is CannotJudge:
        with pytest.raises(CannotJudge, match="by root"):
            doorman._hash_of(found)
    else:
        assert doorman._hash_of(found) == stored
