"""Simple plots as SVG text: axes, lines, points, a legend. The same figures always give the same bytes."""

import math
from collections.abc import Mapping, Sequence

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 50, 60
_COLOURS = ("#1f5fa8", "#c0392b", "#2e8b57", "#8e6c00")
_STYLE = 'font-family="sans-serif" font-size="12"'


class Axis:
    """From figures to places on the page; `logarithmic` in powers of ten."""

    def __init__(self, values: Sequence[float], begin: float, end: float, *, logarithmic: bool) -> None:
        self._begin, self._end, self._log = begin, end, logarithmic
        if logarithmic:
            self._low = math.floor(math.log10(min(values)) + 1e-9)
            self._high = max(self._low + 1, math.ceil(math.log10(max(values)) - 1e-9))
        else:
            self._low, self._high = 0.0, _round_up(max(values))

    def place(self, value: float) -> float:
        """Where the value stands, in the page's units."""
        at = math.log10(value) if self._log else value
        return self._begin + (at - self._low) / (self._high - self._low) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """The values that get a number."""
        if self._log:
            return [10.0**power for power in range(int(self._low), int(self._high) + 1)]
        return [self._high * part / 5 for part in range(6)]


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def draw(title: str, x_title: str, y_title: str, series: Mapping[str, Points], *, log_y: bool = False) -> str:
    """One plot; each of `series` is a line with its name. Points need not be in order. Empty series are left out.

    The x axis is logarithmic, for what is drawn here goes over several powers of ten.
    """
    lines = {name: sorted(points) for name, points in series.items() if points}
    x_axis = Axis([x for points in lines.values() for x, _ in points], _LEFT, _WIDTH - _RIGHT, logarithmic=True)
    y_axis = Axis([y for points in lines.values() for _, y in points], _HEIGHT - _BOTTOM, _TOP, logarithmic=log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 20, title, anchor="middle", more='font-weight="bold"'),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x_title, anchor="middle"),
        _text(_LEFT - 55, _TOP - 14, y_title),
        *_grid(x_axis, y_axis),
    ]
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        at = _LEFT + 20 + number * 130
        parts.append(f'<line x1="{at}" y1="{_HEIGHT - 30}" x2="{at + 20}" y2="{_HEIGHT - 30}" stroke="{colour}" '
                     'stroke-width="2"/>')  # fmt: skip
        parts.append(_text(at + 26, _HEIGHT - 26, name))
    return "\n".join([*parts, "</svg>", ""])


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    bottom, parts = _HEIGHT - _BOTTOM, []
    for value in x_axis.ticks():
        x = x_axis.place(value)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(_text(x, bottom + 15, _number(value), anchor="middle"))
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, _number(value), anchor="end"))
    return parts


def _number(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", more: str = "") -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_STYLE}{" " + more if more else ""}>{safe}</text>'
