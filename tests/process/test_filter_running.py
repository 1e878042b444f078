"""A chain of real filters over a message, inside this process: what passes, what stops it, and what is left behind."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from notqmail.policy.filters import Limits, Mail, Runner, Stopped, copied, envelope_file, open_file
from notqmail.unix.clock import Clock
from notqmail.wire.queue_envelope import BadEnvelope

MESSAGE = b"Subject: x\n\nbody\n"
DEADLINE_S = 60.0


def file_with(content: bytes) -> int:
    descriptor = open_file()
    os.write(descriptor, content)
    return descriptor


@pytest.fixture
def mail() -> Iterator[Mail]:
    mail = Mail(file_with(MESSAGE), envelope_file(b"s@x", [b"a@b", b"c@d"]))
    yield mail
    mail.close()


def run(
    mail: Mail, *scripts: str, timeout_s: float = DEADLINE_S, more: Mapping[int, int] | None = None, **limits: int
) -> None:
    runner = Runner(mail, {**os.environb, b"QMAILNAME": b"Joe"}, Clock(), Limits(timeout_s, **limits))
    for script in scripts:
        runner.run([b"/bin/sh", b"-c", script.encode()], more or {})


def message(mail: Mail) -> bytes:
    return os.pread(mail.message_fd, 1 << 20, 0)


def envelope(mail: Mail) -> bytes:
    return os.pread(mail.envelope_fd, 1 << 20, 0)


PASSING = [
    ("true", MESSAGE),
    ("cat >/dev/null", MESSAGE),
    ("sed s/body/BODY/", b"Subject: x\n\nBODY\n"),
    ("head -c 3", b"Sub"),
    ("exec >&- <&- 3<&- 4>&-", MESSAGE),
    ("sed d", MESSAGE),  # empty output means "unchanged": an empty message cannot be said
    ("cat /proc/self/fd/0 /dev/stdin | head -c 40", MESSAGE * 2),
    ("tail -c 5; exec 0<&-", b"body\n"),
    ("wc -c <&3 | tr -d ' '", b"16\n"),
    ("printf a; printf b; printf c >&1", b"abc"),
]


@pytest.mark.parametrize(("script", "result"), PASSING)
def test_a_filter_that_agrees_makes_the_message(mail: Mail, script: str, result: bytes) -> None:
    run(mail, script)
    assert (message(mail), envelope(mail)) == (result, b"Fs@x\0Ta@b\0Tc@d\0\0")
    assert mail.message_size == len(result)
    assert mail.is_new == (result != MESSAGE)


def test_each_filter_gets_what_the_one_before_it_made(mail: Mail) -> None:
    run(mail, "sed s/body/BODY/", "cat >/dev/null", "sed s/BODY/x/", "tr x X <&3 >&4", "cat; cat <&3 | tr '\\0' .")
    assert message(mail) == b"Subject: x\n\nx\nFs@X.Ta@b.Tc@d.."
    assert (mail.sender, mail.recipients) == (b"s@X", [b"a@b", b"c@d"])


def test_a_filter_learns_the_envelope_and_the_sizes_from_its_environment(mail: Mail) -> None:
    show = 'printf "%s|%s|%s|%s|%s|%s|%s" "$QMAILUSER" "$QMAILHOST" "$QMAILRCPTS" "$NUMRCPTS" "$MSGSIZE" "$ENVSIZE" '
    run(mail, show + '"${QMAILNAME-unset}"')
    assert message(mail) == b"s|x|a@b\nc@d\n|2|17|16|unset"
    run(mail, "printf 'Fu@v@h\\0Tz\\0\\0' >&4", show)
    assert message(mail) == b"u@v|h|z\n|1|26|11|"


@pytest.mark.parametrize(
    ("sender", "user", "host"), [(b"", b"", b""), (b"u", b"u", b""), (b"a@b@c", b"a@b", b"c"), (b"@", b"", b"")]
)
def test_the_sender_is_cut_at_its_last_at_sign(sender: bytes, user: bytes, host: bytes) -> None:
    mail = Mail(file_with(MESSAGE), envelope_file(sender, []))
    told = mail.environment()
    mail.close()
    assert (told[b"QMAILUSER"], told[b"QMAILHOST"], told[b"QMAILRCPTS"], told[b"NUMRCPTS"]) == (user, host, b"", b"0")


STOPPING = [
    ("exit 31", 31, b""),
    ("exit 99", 99, b""),
    ("exit 1", 1, b""),
    ("exit 255", 255, b""),
    ("sed s/body/BODY/; exit 7", 7, b""),
    ("kill -9 $$", 81, b"killed by signal 9"),
    ("sed s/body/BODY/; kill -15 $$", 81, b"killed by signal 15"),
    ("printf junk >&4", 91, b"wrote an envelope that is none"),
    ("printf 'Fs\\0Q\\0\\0' >&4", 91, b"wrote an envelope that is none"),
    ("printf 'Fs\\0Tr\\0' >&4", 54, b"wrote an envelope that is none"),
]


@pytest.mark.parametrize(("script", "code", "why"), STOPPING)
def test_any_other_end_stops_the_chain(mail: Mail, tmp_path: Path, script: str, code: int, why: bytes) -> None:
    with pytest.raises(Stopped) as caught:
        run(mail, script, f"touch {tmp_path}/second")
    assert (caught.value.name, caught.value.code, caught.value.why) == (b"/bin/sh", code, why)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("name", [b"/no/such", b"no-such-program-at-all", b"", b"/etc/passwd", b"/"])
def test_what_cannot_be_run_never_agrees(mail: Mail, name: bytes) -> None:
    with pytest.raises(Stopped) as caught:
        Runner(mail, os.environb, Clock(), Limits(DEADLINE_S)).run([name], {})
    assert caught.value.code == 81 and caught.value.why.startswith(b"cannot be run: ")


def test_a_program_is_found_along_the_path_and_a_script_needs_no_first_line(mail: Mail, tmp_path: Path) -> None:
    script = tmp_path / "plain"
    script.write_text('printf "%s" "$1"\n')
    script.chmod(0o755)
    environ = {b"PATH": bytes(tmp_path) + b":/usr/bin:/bin"}
    Runner(mail, environ, Clock(), Limits(DEADLINE_S)).run([b"plain", b"a b"], {})
    assert message(mail) == b"a b"


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    end_s = time.monotonic() + DEADLINE_S
    while is_alive(pid):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)  # its last steps are the kernel's: nothing of ours is told
    return True


@pytest.mark.parametrize(
    "script", ["sleep 1000 & echo $! >{0}; wait", "trap '' TERM HUP INT; echo $$ >{0}; sleep 1000"]
)
def test_a_filter_that_hangs_is_killed_with_all_it_started(mail: Mail, tmp_path: Path, script: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(Stopped) as caught:
        run(mail, script.format(tmp_path / "pid"), timeout_s=0.5)
    assert (caught.value.code, caught.value.why) == (52, b"still running after 0 seconds")
    assert time.monotonic() - began_s < DEADLINE_S
    noted = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
    assert not noted or gone(int(noted)), "on a busy machine it may not have come so far"


def test_a_filter_that_stops_itself_runs_into_its_deadline(mail: Mail) -> None:
    with pytest.raises(Stopped) as caught:
        run(mail, "kill -STOP $$", timeout_s=0.3)
    assert caught.value.code == 52


@pytest.mark.parametrize("where", ["1", "4", "2"])
def test_a_filter_that_writes_without_end_is_killed(mail: Mail, where: str) -> None:
    said = open_file()
    try:
        with pytest.raises(Stopped) as caught:
            run(mail, f"exec yes >&{where}", more={2: said}, message_more=100_000, envelope_more=100_000)
        assert (caught.value.code, caught.value.why) == (53, b"wrote too much")
    finally:
        os.close(said)


def test_a_filter_that_wrote_too_much_and_has_ended_has_not_agreed(mail: Mail) -> None:
    with pytest.raises(Stopped) as caught:
        run(mail, "head -c 200000 /dev/zero", message_more=100_000)
    assert caught.value.why == b"wrote too much"


def test_a_message_may_grow_within_its_bound(mail: Mail) -> None:
    run(mail, "head -c 100068 /dev/zero", message_more=100_000)  # 4 times 17, and 100,000
    assert mail.message_size == 100_068


def test_a_process_left_behind_is_not_waited_for_and_not_killed(mail: Mail, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    run(mail, f"cat; sleep 1000 & echo $! >{pid_file}")  # it holds 1, 3 and 4 open
    pid = int(pid_file.read_text())
    try:
        assert is_alive(pid)
        assert message(mail) == MESSAGE
    finally:
        os.kill(pid, signal.SIGKILL)
    assert gone(pid)


def test_files_beside_the_message_are_kept_from_one_filter_to_the_next(mail: Mail) -> None:
    beside = open_file()
    try:
        run(mail, "printf 'first\\0' >&5", "cat <&5", more={5: beside})
        assert message(mail) == b"first\0"
    finally:
        os.close(beside)


def test_the_end_is_noticed_without_process_descriptors_too(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    run(mail, "sed s/body/BODY/", "exit 0")
    assert message(mail) == b"Subject: x\n\nBODY\n"


def test_a_copy_is_whole_or_not_at_all() -> None:
    with open(__file__, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        copy = copied(file.fileno(), size)
        assert os.pread(copy, size + 1, 0) == Path(__file__).read_bytes()
        os.close(copy)
        file.seek(0)
        with pytest.raises(MemoryError):
            copied(file.fileno(), size - 1)


def test_mail_with_an_envelope_that_is_none_is_no_mail() -> None:
    message_fd, envelope_fd = file_with(MESSAGE), file_with(b"Fs\0")
    with pytest.raises(BadEnvelope):
        Mail(message_fd, envelope_fd)
    os.close(message_fd)
    os.close(envelope_fd)
