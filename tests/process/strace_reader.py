"""What processes did, out of the files that `strace -ff -y` writes: per role, not per process.

A role is a program of HOME/bin, or what a fork made of itself: `lookup` and `worker` (qmail-lspawn's children). What a
person's own program does once it runs is nobody's business.
"""

import os
import re
from pathlib import Path

CALLS = (
    "execve,clone,clone3,fork,vfork,open,openat,openat2,creat,unlink,unlinkat,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,chmod,fchmodat,chown,lchown,fchownat,truncate,utimensat,chdir,"
    "connect,bind,sendto,setresuid,setresgid,read,pread64,readv,preadv,mmap,sendfile,splice,copy_file_range"
)
OUTSIDE = "(somebody's program)"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NAMING = frozenset(
    ("unlink", "rename", "link", "symlink", "mkdir", "rmdir", "mknod", "chmod", "chown", "lchown", "truncate")
)
_NAMING_AT = frozenset(
    (
        "unlinkat",
        "renameat",
        "renameat2",
        "linkat",
        "symlinkat",
        "mkdirat",
        "mknodat",
        "fchmodat",
        "fchownat",
        "utimensat",
    )
)
_READING = frozenset(("read", "pread64", "readv", "preadv", "mmap", "sendfile", "splice", "copy_file_range"))


class Deeds:
    """What one role did. Each is a set of (what, who): `who` are the numbers uid:gid that it had then."""

    def __init__(self) -> None:
        self.reads: set[tuple[str, str]] = set()
        self.writes: set[tuple[str, str]] = set()
        self.connects: set[tuple[str, str]] = set()
        self.binds: set[tuple[str, str]] = set()
        self.executes: set[tuple[str, str]] = set()
        self.becomes: set[tuple[str, str]] = set()
        self.contents: set[str] = set()  # files whose bytes it read or mapped


class _Process:
    """One traced process on its way through its file. `who` is uid:gid."""

    def __init__(self, role: str, who: str, place: str) -> None:
        self.role, self.who, self.place, self.gid = role, who, place, who.partition(":")[2]


class _Reader:
    def __init__(self, directory: Path, home: str, lookup_uid: int) -> None:
        self._directory, self._bin, self._lookup_uid = directory, f"{home}/bin/", str(lookup_uid)
        self.roles: dict[str, Deeds] = {}

    def roots(self) -> list[str]:
        """Processes that none of the others started."""
        texts = {path.name.removeprefix("t."): path.read_text("utf-8", "replace") for path in self._directory.iterdir()}
        begun = {pid for text in texts.values() for pid in re.findall(r"^(?:clone3?|v?fork)\(.* = (\d+)$", text, re.M)}
        return sorted(set(texts) - begun)

    def follow(self, pid: str, process: _Process) -> None:
        path = self._directory / f"t.{pid}"
        if not path.exists():
            return
        for line in path.read_text("utf-8", "surrogateescape").splitlines():
            found = _CALL.match(line)
            if found is not None:
                self._note(process, *found.groups())

    def _note(self, process: _Process, call: str, arguments: str, result: str) -> None:
        deeds = self.roles.setdefault(process.role, Deeds())
        worked = not result.startswith("-")
        strings = _STRING.findall(arguments)
        if call in ("clone", "clone3", "fork", "vfork"):
            if worked and "CLONE_THREAD" not in arguments:
                self.follow(result, _Process(process.role, process.who, process.place))
            elif worked:
                self.follow(result, process)
        elif call == "execve":
            self._execute(process, deeds, self._full(process, strings[0]), arguments, worked)
        elif call == "chdir" and worked:
            process.place = self._full(process, strings[0])
        elif call == "setresgid" and worked:
            process.gid = arguments.split(",")[0]
        elif call == "setresuid" and worked:
            self._become(process, f"{arguments.split(',')[0]}:{process.gid}")
        elif call in ("connect", "bind", "sendto"):
            self._speak(process, deeds, call, arguments)
        elif call in _READING:
            deeds.contents |= set(re.findall(r"(?:^|, )\d+<(/[^>]*)>", arguments))
        else:
            self._open(process, deeds, call, arguments, strings)

    def _full(self, process: _Process, path: str, base: str = "") -> str:
        return os.path.normpath(os.path.join(base or process.place, path))

    def _execute(self, process: _Process, deeds: Deeds, path: str, arguments: str, worked: bool) -> None:
        if process.role:
            deeds.executes.add((path, process.who))
        if worked:
            process.role = path.removeprefix(self._bin) if path.startswith(self._bin) else OUTSIDE

    def _become(self, process: _Process, who: str) -> None:
        uid = who.partition(":")[0]
        self.roles[process.role].becomes.add((who, process.who))
        process.who = who
        if process.role == "qmail-lspawn" and uid != "0":
            process.role = "lookup" if uid == self._lookup_uid else "worker"

    def _speak(self, process: _Process, deeds: Deeds, call: str, arguments: str) -> None:
        family = re.search(r"sa_family=(AF_\w+)", arguments)
        if family is None:
            return
        whom = deeds.binds if call == "bind" else deeds.connects
        if family[1] == "AF_UNIX":
            path = _STRING.findall(arguments)
            whom.add((self._full(process, path[0]) if path else "unix:", process.who))
        elif port := re.search(r"sin6?_port=htons\((\d+)\)", arguments):
            whom.add((f"inet:{port[1]}", process.who))

    def _open(self, process: _Process, deeds: Deeds, call: str, arguments: str, strings: list[str]) -> None:
        if call in _NAMING:
            deeds.writes |= {(self._full(process, path), process.who) for path in strings}
        elif call in _NAMING_AT:
            bases = re.findall(r"(?:AT_FDCWD|\d+)<([^>]*)>, \"", arguments) or [""]
            deeds.writes |= {(self._full(process, path, bases[0]), process.who) for path in strings}
        elif strings:
            base = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", arguments)
            path = self._full(process, strings[0], base[1] if base else "")
            writing = call == "creat" or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", arguments)
            (deeds.writes if writing else deeds.reads).add((path, process.who))


def read_deeds(directory: Path, home: str, lookup_uid: int) -> dict[str, Deeds]:
    """Role -> deeds. `directory` has a directory of traces for each uid:gid that something was started as."""
    found: dict[str, Deeds] = {}
    for place in directory.iterdir():
        reader = _Reader(place, home, lookup_uid)
        reader.roles = found
        for pid in reader.roots():
            reader.follow(pid, _Process("", place.name, "/"))
    found.pop(OUTSIDE, None)
    found.pop("", None)
    return found
