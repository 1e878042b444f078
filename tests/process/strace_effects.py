"""What programs did to the disk, step by step: out of files that `strace -f -ttt -y` writes, and out of a recording.

Both become lists of Effect: the program, what it did, and to what, in words that do not hold numbers, times and names
of the day. A message's number is N1, N2 and so on in the order in which messages appear; likewise names in pid/ and
in a Maildir.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

CALLS = (
    "execve,clone,clone3,fork,vfork,chdir,fchdir,open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,"
    "sendfile,copy_file_range,splice,link,linkat,unlink,unlinkat,rename,renameat,renameat2,symlink,symlinkat,mkdir,"
    "mkdirat,rmdir,truncate,ftruncate,fallocate,utimensat,utime,utimes,fsync,fdatasync,syncfs,sync,msync,sync_file_range"
)
Effect = tuple[str, str, str]  # program, what, path
Modelled = (
    Effect | tuple[str, str, list[str]]
)  # a sync or barrier has the list of its paths; directories end in a slash

_LINE = re.compile(r"(\d+) +([\d.]+) (.*)")
_BEGUN = re.compile(r"(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)$")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(?:<([^>]*)>)?")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"\d+<(/[^>]*)>")
_FORKS = frozenset(("clone", "clone3", "fork", "vfork"))
_WRITES = frozenset(("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice"))
_OPENS = frozenset(("open", "openat", "openat2", "creat"))


class Names:
    """Says paths in words. `places` is pattern -> words for the beginning that it matches, the first that does; None
    for what is nobody's mail, and so is what matches nothing. The queue's own paths are words as they are.
    """

    def __init__(self, places: dict[str, str | None]) -> None:
        self._places = {re.compile(pattern): words for pattern, words in places.items()}
        self._numbers: dict[str, str] = {}
        self._given: dict[str, str] = {}
        self._count = 0

    def of(self, path: str) -> str | None:
        """The path in words, None for what is nobody's mail."""
        for pattern, words in self._places.items():
            if found := pattern.match(path):
                return None if words is None else self._in_words(words + path[found.end() :])
        return None

    def forget(self, path: str) -> None:
        """A message file is gone: whoever gets its number next is another message."""
        if found := re.search(r"mess/\d+/(\d+)$", path):
            self._numbers.pop(found[1], None)

    def _in_words(self, path: str) -> str:
        parts = path.split("/")
        if parts[0] in ("mess", "info", "local", "remote") and len(parts) > 1:
            return "/".join([parts[0], "*", *map(self._number, parts[2:])])
        if parts[0] in ("todo", "intd", "bounce"):
            return "/".join([parts[0], *map(self._number, parts[1:])])
        if len(parts) > 1 and parts[-2] in ("pid", "tmp", "new"):
            name = self._given.setdefault(parts[-1], f"x{len(self._given) + 1}")
            return "/".join([*parts[:-1], name])
        return path

    def _number(self, number: str) -> str:
        if number not in self._numbers:
            self._count += 1
            self._numbers[number] = f"N{self._count}"
        return self._numbers[number]


class _Process:
    """A traced process: the program it is, and where it stands."""

    def __init__(self, program: str, place: str) -> None:
        self.program, self.place = program, place
        self.writes_to = ""  # the file of its last effect, if that was a write: more of it is the same write


class Trace:
    """Strace files; `effects` is what was done by the programs of `home`, in the order of time."""

    def __init__(self, home: Path, names: Names, forks: dict[str, str], there_before: set[str]) -> None:
        """`forks` says what a fork of a program is called when it does not become another; `there_before` are the files
        that existed when the trace began.
        """
        self._home, self._names, self._forks, self._known = str(home), names, forks, there_before
        self._processes: dict[str, _Process] = {}
        self.effects: list[Effect] = []

    def read(self, files: Iterable[Path]) -> None:
        """Reads them all together."""
        calls = [(pid, found) for pid, call in _whole_calls(files) if (found := _CALL.match(call)) is not None]
        parents = {found[3]: (pid, found[2]) for pid, found in calls if found[1] in _FORKS}
        for pid, found in calls:
            if not found[3].startswith("-"):
                self._note(self._process(pid, parents), found[1], found[2], found[4] or "")

    def _process(self, pid: str, parents: dict[str, tuple[str, str]]) -> _Process:
        """A process that is new here begins as what its parent is: that is still waiting in its fork."""
        if pid not in self._processes:
            parent_pid, arguments = parents.get(pid, ("", ""))
            parent = self._processes.get(parent_pid, _Process("", "/"))
            if "CLONE_THREAD" in arguments:
                self._processes[pid] = parent
            else:
                self._processes[pid] = _Process(self._forks.get(parent.program, parent.program), parent.place)
        return self._processes[pid]

    def _note(self, process: _Process, call: str, arguments: str, opened: str) -> None:
        strings = _STRING.findall(arguments)
        if call == "execve":
            if strings[0].startswith(f"{self._home}/bin/"):
                process.program = " ".join([os.path.basename(strings[0]), *strings[2:3]])
        elif call == "chdir":
            process.place = self._full(process, strings[0])
        elif call == "fchdir":
            process.place = _descriptor(arguments)
        elif call in _OPENS:
            self._open(process, call, arguments, opened)
        elif call in _WRITES:
            target = _descriptor(arguments) if call != "copy_file_range" else _DESCRIPTOR.findall(arguments)[-1]
            if target != process.writes_to:
                self._add(process, "write", target)
                process.writes_to = target
        elif call in ("fsync", "fdatasync", "syncfs", "ftruncate", "fallocate"):
            self._add(process, call, _descriptor(arguments))
        elif call == "sync_file_range":
            if "WAIT_AFTER" in arguments:  # it is for the second one that the program waits
                self._add(process, "written out", _descriptor(arguments))
        elif call in ("sync", "msync"):
            self._add(process, call, f"{self._home}/queue/")
        elif call.startswith("utime"):
            self._add(process, "times", self._named(process, arguments, strings)[0])
        elif call not in _FORKS:
            self._change_names(process, call.removesuffix("2").removesuffix("at"), arguments, strings)

    def _open(self, process: _Process, call: str, arguments: str, opened: str) -> None:
        if (call == "creat" or "O_CREAT" in arguments) and opened not in self._known:
            self._known.add(opened)
            self._add(process, "create", opened)
        elif "O_WRONLY" in arguments or "O_RDWR" in arguments:
            process.writes_to = ""
        if "O_TRUNC" in arguments:
            self._add(process, "truncate", opened)

    def _change_names(self, process: _Process, call: str, arguments: str, strings: list[str]) -> None:
        paths = self._named(process, arguments, strings)
        if call == "rename":
            self._known.discard(paths[0])
        if call in ("link", "rename", "symlink", "mkdir"):
            self._known.add(paths[-1])
        if call in ("link", "rename"):
            self._add(process, call, *paths[:2])
        else:
            self._add(process, call, paths[0])
        if call in ("unlink", "rmdir"):
            self._known.discard(paths[0])
            self._names.forget(paths[0])

    def _named(self, process: _Process, arguments: str, strings: list[str]) -> list[str]:
        """The paths of a call that names them, whole: relative to what -y shows, else to where the process stands."""
        bases = re.findall(r"(?:AT_FDCWD|\d+)<([^>]*)>, \"", arguments)
        if len(bases) == len(strings):
            return [os.path.normpath(os.path.join(base, path)) for base, path in zip(bases, strings, strict=True)]
        return [self._full(process, path) for path in strings]

    def _full(self, process: _Process, path: str) -> str:
        return os.path.normpath(os.path.join(process.place, path))

    def _add(self, process: _Process, what: str, *paths: str) -> None:
        words = [self._names.of(path) for path in paths]
        if any(word is not None for word in words):
            described = " ".join("elsewhere" if word is None else word for word in words)
            self.effects.append((process.program, what, described))
            process.writes_to = ""


def _descriptor(arguments: str) -> str:
    found = _DESCRIPTOR.match(arguments)
    return found[1] if found is not None else ""


def _whole_calls(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(pid, call) as each ends; calls that strace has written in two parts are joined."""
    lines: list[tuple[float, str, str]] = []
    for file in files:
        for line in file.read_text("utf-8", "surrogateescape").splitlines():
            if found := _LINE.match(line):
                lines.append((float(found[2]), found[1], found[3]))
    begun: dict[str, str] = {}
    for _time, pid, text in sorted(lines, key=lambda line: line[0]):
        if first := _BEGUN.match(text):
            begun[pid] = f"{first[1]}({first[2]}"
        elif rest := _RESUMED.match(text):
            yield pid, begun.pop(pid, f"{rest[1]}(") + rest[2]
        else:
            yield pid, text


def recorded_effects(steps: Iterable[object], names: Names) -> Iterator[Modelled]:
    """The steps of a tests/crash Recorder in the same words."""
    for step in steps:
        what, role, arguments = step.what, step.role, step.arguments  # type: ignore[attr-defined]
        if what == "sync":
            paths = [str(names.of(path.decode())) + "/" * (path not in step.files) for path in arguments[0]]  # type: ignore[attr-defined]
            yield role, "barrier" if step.only_order else "sync", paths  # type: ignore[attr-defined]
        elif what != "said":
            paths = arguments[:2] if what in ("link", "rename") else arguments[:1]
            for part in _parts(what, arguments):
                yield role, part, " ".join(str(names.of(path.decode())) for path in paths)
        if what == "unlink":
            names.forget(arguments[0].decode())


def _parts(what: str, arguments: tuple[object, ...]) -> list[str]:
    if what == "create":
        return ["create", "write"] if any(arguments[1]) else ["create"]  # type: ignore[call-overload]
    return {"append": ["write"], "write_at": ["write"], "set_modified": ["times"], "truncate": ["ftruncate"]}.get(
        what, [what]
    )
