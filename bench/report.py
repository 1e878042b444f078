"""The table people read, and the file a later run is compared with."""

import json
import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path

import disk
import ours
import postfix

HISTORY = Path(__file__).parent / "history"


class Figure:
    """One measurement of one side."""

    def __init__(self, messages_per_s: float, accepted_per_s: float, processor_ms: float, memory_mb: float) -> None:
        self.messages_per_s, self.accepted_per_s = messages_per_s, accepted_per_s
        self.processor_ms, self.memory_mb = processor_ms, memory_mb


class Row:
    """All pairs of one kind of work."""

    def __init__(self, title: str, messages: int) -> None:
        self.title, self.messages = title, messages
        self._pairs: list[tuple[Figure, Figure]] = []

    def add(self, our: Figure, peer: Figure) -> None:
        """One more pair: two measurements that stood next to each other in time."""
        self._pairs.append((our, peer))

    def medians(self, quality: str) -> tuple[float, float, float]:
        """(ours, Postfix's, ratio): medians; the ratio is the median of the pairs' ratios, not that of medians."""
        values = [(getattr(our, quality), getattr(peer, quality)) for our, peer in self._pairs]
        return (
            statistics.median(our for our, _ in values),
            statistics.median(peer for _, peer in values),
            statistics.median(our / peer if peer else float("nan") for our, peer in values),
        )

    def as_record(self) -> dict[str, object]:
        """Every figure, for the history."""
        return {
            "work": self.title, "messages": self.messages,
            "ratios": {quality: round(self.medians(quality)[2], 3) for quality, _ in QUALITIES},
            "pairs": [{"ours": _rounded(our), "postfix": _rounded(peer)} for our, peer in self._pairs],
        }  # fmt: skip


QUALITIES = (
    ("messages_per_s", "messages/s, start to last delivery"),
    ("accepted_per_s", "messages/s accepted (250)"),
    ("processor_ms", "ms of processor a message"),
    ("memory_mb", "MB resident (PSS) at the end"),
)


def _rounded(figure: Figure) -> dict[str, float]:
    return {quality: round(getattr(figure, quality), 3) for quality, _ in QUALITIES}


def facts(directory: Path, agent: str, pairs: int) -> dict[str, str]:
    """What a reader must know to judge the figures."""
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} processors ({_processor_name()}), Linux {platform.release()}, "
                   f"{disk.describe(directory)}",
        "ours": f"notqmail {ours.version()}; single-user home, uid {os.getuid()}",
        "ours, durable": ours.DURABILITY,
        "Postfix": f"{postfix.version()} (Debian), default-tuned, delivery by {agent}(8), log by postlogd",
        "Postfix, durable": postfix.DURABILITY,
        "method": f"median of {pairs} alternating pairs",
    }  # fmt: skip


def _processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def print_table(about: dict[str, str], rows: list[Row], floors: dict[str, float], starts: dict[str, float]) -> None:
    """Everything, for a terminal."""
    print()
    for name, text in about.items():
        print(f"{name:17} {text}")
    for row in rows:
        print(f"\n{row.title} ({row.messages} messages)")
        print(f"  {'':38} {'ours':>9} {'Postfix':>9} {'ratio':>7}")
        for quality, title in QUALITIES:
            our, peer, ratio = row.medians(quality)
            print(f"  {title:38} {our:9.2f} {peer:9.2f} {ratio:7.2f}")
    if floors:
        print("\nfloor: a bare loop, one process, the same disk (per second)")
        for title, value in floors.items():
            print(f"  {title:70} {value:9.0f}")
    if starts:
        print("\nstart-up of one-shot programs, as multiples of `python3 -I -S -c pass`")
        for title, value in starts.items():
            print(f"  {title:70} {value:9.2f}")


def record(about: dict[str, str], rows: list[Row], floors: dict[str, float], starts: dict[str, float]) -> Path:
    """Writes bench/history/DATE-HOST.json; returns its path. An earlier record of the same minute is replaced."""
    HISTORY.mkdir(exist_ok=True)
    path = HISTORY / f"{datetime.now(UTC):%Y-%m-%dT%H%M}-{platform.node() or 'host'}.json"
    content = {
        "about": about, "rows": [row.as_record() for row in rows],
        "floor_per_s": {title: round(value, 1) for title, value in floors.items()},
        "start_up_ratio": {title: round(value, 2) for title, value in starts.items()},
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
