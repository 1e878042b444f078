"""What one side of a comparison costs: processor time and memory of all its processes, the dead ones included.

On Linux every process of a side is born in a control group of its own (v1 `cpuacct` or v2), whose counter never
forgets a process that ended. Where no group can be made, the process trees under the side's known parents are
summed instead (own time and that of waited-for children): right as long as each parent waits for its children.
"""

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_GROUP_PARENTS = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_MEMORY_PARENTS = (Path("/sys/fs/cgroup/memory"),)


class Meter:
    """The meter of one side. Start its programs with the argv that `inside` gives."""

    def __init__(self, side: str) -> None:
        self.parents: set[int] = set()  # pids of the side's top processes; used only without a control group
        self._group = _make_group(_GROUP_PARENTS, f"notqmail-bench-{os.getpid()}-{side}")
        # v1 keeps processor and memory in different trees; v2 has one
        self._memory = _make_group(_MEMORY_PARENTS, f"notqmail-bench-{os.getpid()}-{side}") if self._group else None

    @property
    def method(self) -> str:
        """How the processor time is learned, for the report."""
        return "control group" if self._group else "process trees"

    def inside(self, argv: list[str]) -> list[str]:
        """`argv` wrapped so that it is born inside the side's control group."""
        if self._group is None:
            return argv
        join = "".join(f"echo $$ >{group}/cgroup.procs && " for group in (self._group, self._memory) if group)
        return ["/bin/sh", "-c", f'{join}exec "$@"', "sh", *argv]

    def processor_s(self) -> float:
        """Seconds of user and system time this side has used since it was started."""
        if self._group is None:
            return sum(_processor_of_tree_s(pid) for pid in self.parents)
        usage = self._group / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return int((self._group / "cpu.stat").read_text().split()[1]) / 1e6  # first line: usage_usec N

    def pids(self) -> list[int]:
        """The side's processes alive now."""
        if self._group is not None:
            return [int(pid) for pid in (self._group / "cgroup.procs").read_text().split()]
        return [pid for parent in self.parents for pid in _tree(parent)]

    def memory_mb(self) -> float:
        """Resident memory of all the side's processes, shared pages divided among those who share them (PSS)."""
        return sum(map(proportional_kb, self.pids())) / 1024

    def private_mb(self) -> float:
        """Memory that belongs to the side's processes and to no file, quick enough to be asked all the time."""
        group = self._memory or self._group
        stat = group / "memory.stat" if group else None
        if stat is None or not stat.exists():
            return self.memory_mb()
        figures = dict(line.split() for line in stat.read_text().splitlines())
        return int(figures.get("total_rss", figures.get("anon", "0"))) / 2**20

    def wait_idle(self, deadline_s: float = 10.0) -> None:
        """Returns when the side has stopped working: clean-up after the last message belongs to its cost."""
        end, before = time.monotonic() + deadline_s, self.processor_s()
        while time.monotonic() < end:
            time.sleep(0.2)
            now = self.processor_s()
            if now - before < 0.002:  # an idle daemon's timers cost less than that in 0.2 s
                return
            before = now

    def close(self) -> list[int]:
        """Removes the group; returns the pids that are still there although the side was stopped (should be [])."""
        end = time.monotonic() + 60
        while (left := self.pids()) and time.monotonic() < end:
            time.sleep(0.05)
        for group in (self._group, self._memory):
            if group is not None and not left:
                group.rmdir()
        return left


def _make_group(parents: tuple[Path, ...], name: str) -> Path | None:
    for parent in parents:
        if not (parent / "cgroup.procs").exists():
            continue
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue  # read-only in a container: try the next, else the process trees do
        if any((group / file).exists() for file in ("cpuacct.usage", "cpu.stat", "memory.usage_in_bytes")):
            return group
        group.rmdir()
    return None


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _tree(root: int) -> list[int]:
    """`root` and its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return [pid for pid in found if os.path.exists(f"/proc/{pid}")]


def _processor_of_tree_s(root: int) -> float:
    total = 0
    for pid in _tree(root):
        try:
            total += sum(map(int, _stat(pid)[11:15]))  # utime stime cutime cstime
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended: its parent's cutime has it now
    return total / _TICKS


def what_proc_says(pid: int, file: str) -> bytes:
    """A file of a process in /proc; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def proportional_kb(pid: int) -> int:
    """Resident memory of a process, shared pages divided among those who share them; 0 when it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass  # it ended while we looked, or is not ours: counts nothing
    return 0
