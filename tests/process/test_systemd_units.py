"""The units in packaging/systemd: systemd finds no fault, their exposure is what the page says, and mail flows in them.

There is no systemd as process 1 here, so their options are put on with the kernel's own tools: setpriv for users and
capabilities, a read-only file system in a mount namespace, prctl for memory. What that leaves out is in the page.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from classic_house import HOST, System, made_system, until
from other_services import mail_by_the_other_services

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "explanation" / "privileges.md"
UNITS = {path.stem: path for path in sorted((REPOSITORY / "packaging" / "systemd").glob("*.service"))}
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze (Debian package systemd)")


def options(unit: str) -> dict[str, list[str]]:
    """Option -> its values, in order."""
    found: dict[str, list[str]] = {}
    for line in UNITS[unit].read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_the_exposure_is_not_worse_than_the_page_says(unit: str) -> None:
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=yes", "--no-pager", str(UNITS[unit])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    recorded = re.search(rf"^\| {unit} \|.* ([\d.]+) \|$", PAGE.read_text(), re.M)
    assert said is not None and recorded is not None, done.stderr
    assert float(said[1]) <= float(recorded[1])


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    for name, path in UNITS.items():
        text = re.sub(r"^Documentation=.*\n", "", path.read_text(), flags=re.M)
        for directory in ("/var/qmail/bin/", "/usr/bin/"):
            text = text.replace(directory, f"{tmp_path}/bin-")
        (tmp_path / f"{name}.service").write_text(text)
        (started,) = re.findall(rf"^ExecStart={tmp_path}/(bin-\S+)", text, re.M)
        (tmp_path / started).write_text("#!/bin/sh\n")
        (tmp_path / started).chmod(0o755)
    done = subprocess.run(
        [str(ANALYZE), "verify", str(tmp_path / f"{unit}.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if line.startswith(str(tmp_path)) or unit in line]
    assert complaints == []


# ── mail in their confinement ───────────────────────────────────────────────────────────────────────────────────────

NO_NEW_CODE = (
    "import ctypes, os, sys; bad = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def confined(system: System, command: list[str]) -> list[str]:
    """The command as its unit would confine it."""
    unit = options(unit_of(command))
    temporary = Path("/var/tmp")
    if system.base.is_relative_to(temporary):  # a tmpfs there would hide the system itself
        temporary = system.base / "temporary"
        temporary.mkdir(exist_ok=True)
    mounts = [f"mount -t tmpfs -o mode=1777 private {temporary}"] if "PrivateTmp" in unit else []
    if unit["ProtectSystem"] == ["strict"]:
        places = " ".join(unit.get("ReadWritePaths", [])).replace("/var/qmail", str(system.home)).split()
        mounts += [f"mount --bind {place} {place}" for place in places] + ["mount -o remount,bind,ro /"]
    for place in " ".join(unit.get("ReadOnlyPaths", [])).replace("/var/qmail", str(system.home)).split():
        mounts += [f"mount --bind {place} {place}", f"mount -o remount,bind,ro {place}"]
    script = " && ".join([*mounts, f'TMPDIR={temporary} exec "$@"'])
    words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh", "setpriv"]
    kept = " ".join(unit["CapabilityBoundingSet"]).lower().replace("cap_", "").split()
    words.append("--bounding-set=" + ",".join(["-all", *[f"+{one}" for one in kept]]))
    if "User" in unit:
        gid = system.machine.gid[unit["Group"][0]]
        words += [f"--reuid={system.machine.uid[unit['User'][0]]}", f"--regid={gid}", f"--groups={gid}"]
        ambient = " ".join(unit.get("AmbientCapabilities", [])).lower().replace("cap_", "").split()
        words += [
            f"--{kind}-caps=" + ",".join(["-all", *[f"+{one}" for one in ambient]]) for kind in ("inh", "ambient")
        ]
    if "NoNewPrivileges" in unit:
        words.append("--no-new-privs")
    if "MemoryDenyWriteExecute" in unit:
        words += ["/usr/bin/python3", "-I", "-c", NO_NEW_CODE]
    return [*words, *command]


def unit_of(command: list[str]) -> str:
    """The unit that starts it."""
    name = Path(command[0]).name
    return {"qmail-start": "qmail-send", "tcpserver": "qmail-pop3d"}.get(name, name)


def of_process(system: System, program: str, field: str) -> set[str]:
    """What /proc says in that field of all processes of a program."""
    found = set()
    for pid, command in system.processes().items():
        if f"/bin/{program} " in f"{command} ":
            try:
                found |= set(re.findall(rf"^{field}:\s+(\S+)", Path(f"/proc/{pid}/status").read_text(), re.M))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return found


@pytest.mark.root
@pytest.mark.parametrize("own_writer", [True, False], ids=["all three units", "qmail-start's own writer"])
def test_mail_flows_in_the_units_confinement(own_writer: bool) -> None:
    with made_system() as system:
        system.confined = lambda command: confined(system, command)
        system.write(system.home / "alias" / ".qmail-postmaster", f"&bob@{HOST}\n", "alias")
        system.write(system.person("alice") / ".qmail-program", "|cat >program\n", "alice")
        system.start(own_writer=own_writer)
        mail_of_some_kinds(system)
        assert of_process(system, "qmail-smtpd", "CapEff") == {f"{1 << 10:016x}"}
        assert of_process(system, "qmail-lspawn", "CapBnd") == {f"{1 << 6 | 1 << 7:016x}"}
        assert of_process(system, "qmail-queue", "CapEff") == {"0" * 16}
        assert of_process(system, "qmail-queue", "NoNewPrivs") == {"1" if own_writer else "0"}
        assert set(system.stop()) == {0}


@pytest.mark.root
@pytest.mark.debian("tcpserver")
def test_mail_flows_in_the_confinement_of_the_other_units() -> None:
    with made_system() as system:
        system.confined = lambda command: confined(system, command)
        system.start()
        mail_by_the_other_services(system)
        for program in ("qmail-qmtpd", "qmail-qmqpd"):
            assert of_process(system, program, "CapEff") == {f"{1 << 10:016x}"}
        assert of_process(system, "tcpserver", "CapEff") == {f"{1 << 6 | 1 << 7 | 1 << 10:016x}"}
        assert of_process(system, "tcpserver", "NoNewPrivs") == {"1"}
        system.stop()


@needs_systemd
@pytest.mark.root
@pytest.mark.debian("tcpserver")
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_no_system_call_is_made_that_the_units_filter_out() -> None:
    with made_system() as system:
        system.write(system.home / "alias" / ".qmail-postmaster", f"&bob@{HOST}\n", "alias")
        system.write(system.person("alice") / ".qmail-program", "|cat >program\n", "alice")
        traces = system.base / "trace"
        traces.mkdir()
        traces.chmod(0o1777)

        def traced(command: list[str]) -> list[str]:
            place = traces / unit_of(command)
            place.mkdir()
            return ["strace", "-D", "-ff", "-o", f"{place}/t", *command]

        system.confined = traced
        system.start()
        mail_of_some_kinds(system)
        mail_by_the_other_services(system)
        system.stop()
        for unit in UNITS:
            text = "".join(path.read_text("utf-8", "replace") for path in (traces / unit).iterdir())
            made = set(re.findall(r"^(\w+)\(", text, re.M))
            assert len(made) > 30
            assert filtered_out(unit, made) - NOT_NEEDED == set(), unit


# Made while it is still root, which it never is in its unit; and the C library's question that it can do without.
NOT_NEEDED = {"chown", "setgroups", "setresgid", "setresuid"}


def filtered_out(unit: str, calls: set[str]) -> set[str]:
    """Those of the calls that the unit's SystemCallFilter does not let through."""
    allowed: set[str] | None = None
    for line in options(unit)["SystemCallFilter"]:
        names = {call for group in line.removeprefix("~").split() for call in members(group)}
        if line.startswith("~"):
            allowed = (calls if allowed is None else allowed) - names
        else:
            allowed = (allowed or set()) | names
    assert allowed is not None
    return calls - allowed


def members(group: str) -> set[str]:
    """The system calls of one of systemd's groups."""
    if not group.startswith("@"):
        return {group}
    done = subprocess.run(
        [str(ANALYZE), "syscall-filter", group], capture_output=True, text=True, timeout=60, check=True
    )
    words = [line.split("#")[0].strip() for line in done.stdout.splitlines()[1:]]
    return {call for word in words if word for call in members(word)}


def mail_of_some_kinds(system: System) -> None:
    """Through all processes, small and large."""
    large = "Subject: large\r\n\r\n" + "many lines of some length\r\n" * 20_000
    for local in ("alice", "alice-program", "postmaster", "nobody-here"):
        system.send(f"bob@{HOST}", f"{local}@{HOST}", f"Subject: x\r\n\r\nfor {local}\r\n")
    system.send(f"bob@{HOST}", f"alice@{HOST}", large)
    system.inject("bob", f"To: alice@{HOST}\nSubject: by hand\n\n{large}")
    for needle in ("for alice\n", "Subject: large", "Subject: by hand"):
        system.mail("alice", needle)
    for needle in ("for postmaster", "no mailbox here"):
        system.mail("bob", needle)
    until((system.person("alice") / "program").exists, system.log)
