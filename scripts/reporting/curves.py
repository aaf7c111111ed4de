"""Charts of PSNR over weight updates, as SVG that takes the page's colours."""

import math
from html import escape

from reporting.data import Cell, Table

WIDTH, HEIGHT = 480, 320  # of the viewBox; text of 13 units is legible on a phone
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 12, 44  # room for the half of a tick of five digits
POINTS = 300  # of a line at most
FLOOR = 20.0  # dB below the best that are shown
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # lines are told apart without colours, too
COLOURS = 8  # that the style sheet has

Line = list[tuple[int, float, float, float]]  # step, mean, lowest, highest


def charts(table: Table) -> list[tuple[str, dict[str, Line]]]:
    """Collect the curves of a table.

    Returns:
        Title and label -> line of each chart: one a panel of the paper's figure, else one a
        setting.
    """
    if table.panels:
        drawn = []
        for title, curves in table.panels.items():
            lines = {label: average(table.at(*of)) for label, of in curves.items()}
            drawn.append((title, {label: line for label, line in lines.items() if len(line) > 1}))
        return [(title, lines) for title, lines in drawn if lines]
    # aSeqDIP first, so that its line looks the same in all charts.
    order = sorted(table.methods, key=lambda method: not method.startswith("aseqdip"))
    found = {
        (setting, method): average(table.at(setting, method))
        for setting in table.settings
        for method in order
    }
    found = {key: line for key, line in found.items() if len(line) > 1}
    by_setting: dict[str, dict[str, Line]] = {}
    for (setting, method), line in found.items():
        by_setting.setdefault(setting, {})[table.methods[method]] = line
    return [(table.settings[setting], lines) for setting, lines in by_setting.items()]


def average(cells: list[Cell]) -> Line:
    """Average the curves of several runs over the steps that all of them logged."""
    curves = [cell.run.curve for cell in cells if cell.run and cell.run.curve]
    if not curves:
        return []
    steps = sorted(set(curves[0]).intersection(*curves[1:]))
    line = []
    for step in steps:
        values = [curve[step] for curve in curves]
        line.append((step, math.fsum(values) / len(values), min(values), max(values)))
    stride = -(-len(line) // POINTS)
    return line[::stride] + ([] if not line or (len(line) - 1) % stride == 0 else line[-1:])


def draw(lines: dict[str, Line], description: str) -> str:
    """Draw a chart.

    Args:
        lines: label -> line, at least one.
        description: what it shows, for those who cannot see it.

    Returns:
        An <svg> element; line i has class c(i modulo COLOURS).
    """
    last = max(line[-1][0] for line in lines.values())
    means = [mean for line in lines.values() for _, mean, _, _ in line]
    best = max(high for line in lines.values() for _, _, _, high in line)
    lowest = max(min(means), max(means) - FLOOR)
    y_ticks = ticks(lowest, best)
    bottom, top = min(lowest, y_ticks[0]) - 0.2, max(best, y_ticks[-1]) + 0.2

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(psnr: float) -> float:
        psnr = min(max(psnr, bottom), top)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (psnr - bottom) / (top - bottom)

    def points(pairs: list[tuple[float, float]]) -> str:
        return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in pairs)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">']
    for value in y_ticks:
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{LEFT - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:g}</text>'
        )
    for value in ticks(0, last):
        parts.append(
            f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" '
            f'y2="{HEIGHT - BOTTOM}"/><text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{value:g}</text>'
        )
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">weight '
        f'updates</text><text transform="translate(13 {middle}) rotate(-90)" '
        f'text-anchor="middle">PSNR (dB)</text>'
    )
    for index, line in enumerate(lines.values()):
        colour = f"c{index % COLOURS}"
        if any(high > low for _, _, low, high in line):
            outline = [(s, high) for s, _, _, high in line]
            outline += [(s, low) for s, _, low, _ in reversed(line)]
            parts.append(f'<polygon class="band {colour}" points="{points(outline)}"/>')
        parts.append(
            f'<polyline class="line {colour}" stroke-dasharray="{dash(index)}" '
            f'points="{points([(s, mean) for s, mean, _, _ in line])}"/>'
        )
    return "".join(parts) + "</svg>"


def dash(index: int) -> str:
    """Return the dashes of line number `index`."""
    return DASHES[index % len(DASHES)]


def ticks(low: float, high: float) -> list[float]:
    """Choose four to ten round numbers from low to high, one if they are equal."""
    if high <= low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / 4))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= 8:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)] or [low]
