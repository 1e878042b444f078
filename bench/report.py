"""The table people read, and the file a later run is compared with."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import disk
import ours
import postfix

HISTORY = Path(__file__).parent / "history"
FORMAT = 2  # of the records: 1 had no names, bars or lines


class Bar:
    """What the project asks of a figure: `Bar("ratio", ">=", 2.0)`, `Bar("ours", "<", 80)`."""

    _HOLDS = {
        ">=": lambda figure, value: figure >= value,
        "<=": lambda figure, value: figure <= value,
        "<": lambda figure, value: figure < value,
    }

    def __init__(self, of: str, relation: str, value: float) -> None:
        self.of, self.relation, self.value = of, relation, value

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}{' x' if self.of == 'ratio' else ''}"

    def is_met(self, figure: float) -> bool:
        """Whether the figure is as good as asked. One that could not be measured is not."""
        return bool(self._HOLDS[self.relation](figure, self.value))


class Line:
    """One quality of a row, measured in pairs: ours and the other side's, next to each other in time."""

    def __init__(self, title: str, bar: Bar | None) -> None:
        self.title, self.bar = title, bar
        self.pairs: list[tuple[float | None, float | None]] = []

    @property
    def ours(self) -> float | None:
        """The median."""
        return _median([our for our, _ in self.pairs if our is not None])

    @property
    def other(self) -> float | None:
        """The median."""
        return _median([other for _, other in self.pairs if other is not None])

    @property
    def ratio(self) -> float | None:
        """The median of the pairs' ratios, not the ratio of the medians: this machine's speed wanders."""
        return _median([our / other for our, other in self.pairs if our is not None and other])

    @property
    def is_under_the_bar(self) -> bool:
        """Whether a bar is there and was not reached."""
        if self.bar is None:
            return False
        figure = self.ratio if self.bar.of == "ratio" else self.ours
        return figure is None or not self.bar.is_met(figure)


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


class Row:
    """One kind of work. `mine` and `other` head the columns: us and Postfix, or one system in two circumstances."""

    def __init__(self, name: str, title: str, detail: str, other: str = "Postfix", mine: str = "ours") -> None:
        self.name, self.title, self.detail, self.other, self.mine = name, title, detail, other, mine
        self.lines: dict[str, Line] = {}
        self.notes: list[str] = []

    def line(self, key: str, title: str, bar: Bar | None = None) -> None:
        """Announces a quality; lines are printed in this order."""
        self.lines[key] = Line(title, bar)

    def add(self, our: Mapping[str, float], other: Mapping[str, float] | None = None) -> None:
        """One more pair: figures by the lines' keys; what a side has no figure for is left out."""
        for key, line in self.lines.items():
            pair = our.get(key), (other or {}).get(key)
            if pair != (None, None):
                line.pairs.append(pair)

    def note(self, text: str) -> None:
        """Something a reader must know to judge the figures."""
        self.notes.append(text)

    def as_record(self) -> dict[str, object]:
        """Every figure, for the history."""
        return {
            "name": self.name, "work": self.title, "detail": self.detail, "columns": [self.mine, self.other],
            "notes": self.notes,
            "lines": [
                {
                    "key": key, "title": line.title, "bar": str(line.bar) if line.bar else None,
                    "ours": _rounded(line.ours), "other": _rounded(line.other), "ratio": _rounded(line.ratio),
                    "pairs": [[_rounded(our), _rounded(other)] for our, other in line.pairs],
                }
                for key, line in self.lines.items()
            ],
        }  # fmt: skip


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.5g}")


def facts(directory: Path, agent: str) -> dict[str, str]:
    """What a reader must know to judge the figures."""
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} processors ({_processor_name()}), Linux {platform.release()}, "
                   f"{disk.describe(directory)}",
        "ours": f"notqmail {ours.version()}; single-user home, uid {os.getuid()}",
        "ours, durable": ours.DURABILITY,
        "Postfix": f"{postfix.version()} (Debian), default-tuned, delivery by {agent}(8), log by postlogd",
        "Postfix, durable": postfix.DURABILITY,
    }  # fmt: skip


def _processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def print_facts(about: Mapping[str, str]) -> None:
    """The head of the table."""
    print()
    for name, text in about.items():
        print(f"{name:17} {text}")


def print_row(row: Row) -> None:
    """One row, as soon as it is there."""
    print(f"\n{row.name}: {row.title} ({row.detail})")
    print(f"  {'':50} {row.mine:>10} {row.other:>14} {'ratio':>7}   bar")
    for line in row.lines.values():
        bar = "" if line.bar is None else f"{line.bar}{'' if not line.is_under_the_bar else '  NOT REACHED'}"
        print(f"  {line.title:50} {_shown(line.ours):>10} {_shown(line.other):>14} {_shown(line.ratio):>7}   {bar}"
              .rstrip())  # fmt: skip
    for note in row.notes:
        print(f"  - {note}")
    print(flush=True)


def _shown(figure: float | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:.0f}" if abs(figure) >= 1000 else f"{figure:.2f}" if abs(figure) >= 0.1 else f"{figure:.3g}"


def print_verdicts(rows: Sequence[Row]) -> None:
    """What is under its bar, all in one place."""
    under = [(row, line) for row in rows for line in row.lines.values() if line.is_under_the_bar]
    print(f"\n{sum(line.bar is not None for row in rows for line in row.lines.values())} bars, "
          f"{len(under)} not reached:" if under else "\nevery bar of these rows is reached")  # fmt: skip
    for row, line in under:
        got = line.ratio if line.bar is not None and line.bar.of == "ratio" else line.ours
        print(f"  {row.name}: {line.title}: {_shown(got)}, asked {line.bar}")


def record(about: Mapping[str, str], rows: Sequence[Row]) -> Path:
    """Writes bench/history/DATE-HOST.json; returns its path. An earlier record of the same minute is replaced."""
    HISTORY.mkdir(exist_ok=True)
    path = HISTORY / f"{datetime.now(UTC):%Y-%m-%dT%H%M}-{platform.node() or 'host'}.json"
    content = {"format": FORMAT, "about": about, "rows": [row.as_record() for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
