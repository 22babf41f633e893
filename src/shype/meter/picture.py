"""A picture of usage over time: one line for each VM, label or coalition; SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from shype.meter.report import By, Sampled, keys
from shype.meter.usage import NOTHING, Usage

#: What can be drawn: the unit, and the amount per second from the change of usage and its seconds.
WHAT: Mapping[str, tuple[str, Callable[[Usage, float], float]]] = {
    "cpu": ("processors", lambda used, seconds: used.cpu_ns / 1e9 / seconds),
    "memory": ("MiB", lambda used, seconds: used.memory_bs / 2**20 / seconds),
    "disk": ("KiB/s", lambda used, seconds: (
        used.disk_read_bytes + used.disk_written_bytes) / 1024 / seconds),
    "network": ("KiB/s", lambda used, seconds: (
        used.net_received_bytes + used.net_sent_bytes) / 1024 / seconds),
}
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 900, 360, 70, 40, 190, 40
#: So many lines can be told apart; the rest are left out, the least first.
MOST = 8


@dataclass(frozen=True, slots=True)
class Series:
    """A line: moments (nanoseconds since 1970) and the rate that led to each."""

    key: str
    points: tuple[tuple[int, float], ...]


def series(history: Iterable[Sampled], by: By, what: str) -> tuple[Series, ...]:
    """The lines, greatest sum first, at most `MOST`. ``what`` is a key of `WHAT`."""
    rate = WHAT[what][1]
    last: dict[int, tuple[int, Usage]] = {}
    found: dict[str, dict[int, float]] = {}
    for one in history:
        before, usage = last.get(one.run.number, (None, NOTHING))
        last[one.run.number] = (one.time, one.usage)
        if before is None or one.time <= before:
            continue
        now = rate(one.usage - usage, (one.time - before) / 1e9)
        for key in keys(one.run, by):
            line = found.setdefault(key, {})
            line[one.time] = line.get(one.time, 0.0) + now
    lines = [Series(key, tuple(sorted(line.items()))) for key, line in found.items()]
    lines.sort(key=lambda line: (-sum(value for _, value in line.points), line.key))
    return tuple(lines[:MOST])


def svg(lines: Sequence[Series], what: str) -> str:
    """The picture."""
    times = [time for line in lines for time, _ in line.points]
    begin, end = (min(times), max(times)) if times else (0, 1)
    most = max((value for line in lines for _, value in line.points), default=0.0) or 1.0
    across, up = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(time: int, value: float) -> tuple[float, float]:
        return (_LEFT + across * (time - begin) / max(end - begin, 1),
                _HEIGHT - _BOTTOM - up * value / most)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(what)} used over time</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="15">{escape(what)} ({WHAT[what][0]})</text>',
    ]
    for step in range(5):
        value = most * step / 4
        y = place(begin, value)[1]
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                     'stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for time, anchor in ((begin, "start"), (end, "end")) if times else ():
        said = datetime.fromtimestamp(time // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        parts.append(f'<text x="{place(time, 0)[0]:.1f}" y="{_HEIGHT - 15}" '
                     f'text-anchor="{anchor}">{said}</text>')
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _TOP + 18 * number
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 15}" y="{y - 9}" width="12" height="12" '
                     f'fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 33}" y="{y + 2}">{escape(line.key[:24])}</text>')
    return "\n".join([*parts, "</svg>", ""])
