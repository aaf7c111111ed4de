"""The words of a table: our figures, the paper's, their difference, and marks, as text.

report.md and index.html both show what is built here, so that they cannot disagree.
"""

import math
from dataclasses import dataclass, field

from reporting.data import STATES, Cell, Summary, Table, summarise
from reporting.differences import IMAGES, differences
from utils.paper import Figure, figures_beside
from utils.runs import duration

MINUS = "\N{MINUS SIGN}"
PRIOR = {"reference", "prior_measurements"}  # what runs record that used prior data


@dataclass
class Measure:
    """PSNR or SSIM of one row and column; empty strings for what there is not."""

    ours: str = ""
    paper: str = ""
    difference: str = ""


@dataclass
class Entry:
    """One row and column.

    Attributes:
        psnr, ssim: of the results.
        n: images, and seeds where there are several.
        seconds, minutes_paper: mean time of a run, and the paper's.
        device: where the runs were made, if not all of the table were made on one.
        marks: letters of the legend that hold here, but not in the whole row.
        status: what is missing and why, a line each.
        ema, oracle: PSNR of the averaged image, and of the best one by the truth, with its step.
    """

    psnr: Measure = field(default_factory=Measure)
    ssim: Measure = field(default_factory=Measure)
    n: str = ""
    seconds: str = ""
    minutes_paper: str = ""
    device: str = ""
    marks: str = ""
    status: list[str] = field(default_factory=list)
    ema: str = ""
    oracle: str = ""


@dataclass
class Row:
    """One method.

    Attributes:
        method, label: its name, and its name for people.
        prior: whether it uses prior data or a pre-trained network, by the paper or by what its
            runs recorded.
        marks: letters of the legend that hold in each column with a run.
        entries: by setting.
    """

    method: str
    label: str
    prior: bool
    marks: str
    entries: dict[str, Entry]


@dataclass
class Words:
    """A table in words.

    Attributes:
        rows: in their order.
        legend: letter -> what differs from the paper.
        direct: setting -> PSNR of the direct reconstruction.
        devices: where its runs were made.
        precisions: how exactly their networks computed.
        items: the images.
        states: how many cells are done, failed, left, not run.
    """

    rows: list[Row]
    legend: dict[str, str]
    direct: dict[str, str]
    devices: list[str]
    precisions: list[str]
    items: list[str]
    states: str


def write_words(table: Table, figures: list[Figure]) -> Words:
    """Put a table in words.

    Args:
        table: what was run.
        figures: those of paper_figures.
    """
    texts: dict[str, None] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for method in table.methods:
        for setting in table.settings:
            texts_here = differences(
                table.at(setting, method), table.number, table.data_sets.get(setting),
                IMAGES if table.images is None else table.images,
            )  # fmt: skip
            found[setting, method] = texts_here
            texts.update(dict.fromkeys(texts_here))
    letters = {text: _letter(i) for i, text in enumerate(texts)}
    devices = _devices(table.cells)
    rows = []
    for method, label in table.methods.items():
        with_runs = [s for s in table.settings if any(c.run for c in table.at(s, method))]
        whole_row = [
            text for text in texts if with_runs and all(text in found[s, method] for s in with_runs)
        ]
        # Without a plan, `method | what differs` are several rows of one method.
        name = method.partition(" | ")[0]
        prior = any(not f.data_independent for f in figures if f.method == name)
        entries = {}
        for setting in table.settings:
            beside = figures_beside(figures, table.number, setting, name)
            cells = table.at(setting, method)
            prior = prior or any(PRIOR & set(c.run.metrics) for c in cells if c.run is not None)
            entry = _entry(cells, beside)
            entry.device = "; ".join(_devices(cells)) if len(devices) > 1 else ""
            here = [letters[t] for t in found[setting, method] if t not in whole_row]
            entry.marks = " ".join(here)
            entries[setting] = entry
        rows.append(Row(method, label, prior, " ".join(letters[t] for t in whole_row), entries))
    direct = {}
    for setting in table.settings:
        cells = [cell for cell in table.cells if cell.setting == setting]
        direct[setting] = _plain(_over_images(cells, "psnr_input"))
    return Words(
        rows=rows,
        legend={letter: text for text, letter in letters.items()},
        direct=direct,
        devices=devices,
        precisions=sorted(
            {
                run.settings["precision"]
                for run in table.runs()
                if run.metrics.get("steps") and "precision" in run.settings
            }
        ),
        items=sorted({cell.item for cell in table.cells if cell.run}),
        states=_states(table),
    )


def made_on(words: Words) -> str:
    """Tell where a table's runs were made, and how exactly their networks computed."""
    networks = f", networks in {' and '.join(words.precisions)}" if words.precisions else ""
    return "; ".join(words.devices) + networks


def _devices(cells: list[Cell]) -> list[str]:
    return sorted({cell.run.metrics["device"] for cell in cells if cell.run is not None})


def _letter(index: int) -> str:
    return (chr(ord("a") + index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _states(table: Table) -> str:
    left = table.count("waiting") + table.count("running")
    counts = {
        "done": table.count("done"), "failed": table.count("failed"), "left": left,
        "not run": table.count("not run"),
    }  # fmt: skip
    runs = "1 run" if len(table.cells) == 1 else f"{len(table.cells)} runs"
    return f"{runs}: " + ", ".join(
        f"{n} {word}" for word, n in counts.items() if n or word == "done"
    )


def _over_images(cells: list[Cell], name: str) -> Summary | None:
    return summarise((c.item, c.run.figure(name)) for c in cells if c.run is not None)


def _entry(cells: list[Cell], beside: list[Figure]) -> Entry:
    done = [cell for cell in cells if cell.run is not None]
    entry = Entry(status=_status(cells))
    for name, digits in (("psnr", 2), ("ssim", 3)):
        ours = summarise((c.item, c.run.result(name)) for c in done)
        setattr(entry, name, _measure(ours, beside, name, digits))
    if done:
        seeds = len({cell.seed for cell in done})
        entry.n = str(len({cell.item for cell in done}))
        entry.n += f" x {seeds} seeds" if seeds > 1 else ""
        seconds = [cell.run.metrics["seconds"] for cell in done]
        entry.seconds = duration(math.fsum(seconds) / len(seconds))
        if all(cell.run.result("psnr") is None for cell in done):
            entry.status.append("no truth to compare with")
        entry.ema = _plain(_over_images(done, "psnr_ema"))
        entry.oracle = _plain(_over_images(done, "psnr_oracle"))
        at = _over_images(done, "step_oracle")
        if at is not None:
            entry.oracle += f" at {at.mean:.0f}"
    if beside and beside[0].minutes is not None:  # the paper gives one time for both settings
        entry.minutes_paper = f"{beside[0].minutes:g} min"
    return entry


def _measure(ours: Summary | None, beside: list[Figure], name: str, digits: int) -> Measure:
    printed = [
        (getattr(f, name), getattr(f, f"{name}_std"))
        for f in beside
        if getattr(f, name) is not None
    ]
    measure = Measure(
        ours="" if ours is None else _mean(ours.mean, ours.std, digits),
        paper=" or ".join(_mean(mean, std, digits) for mean, std in printed),
    )
    if ours is not None and math.isfinite(ours.mean):
        measure.difference = " or ".join(signed(ours.mean - mean, digits) for mean, _ in printed)
    return measure


def _mean(mean: float, std: float | None, digits: int) -> str:
    if math.isinf(mean):
        return "infinite"
    return f"{mean:.{digits}f}" + ("" if std is None else f" \N{PLUS-MINUS SIGN} {std:.{digits}f}")


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign; what rounds to zero has none."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else (MINUS if value < 0 else "+") + text


def _plain(summary: Summary | None) -> str:
    return "" if summary is None else _mean(summary.mean, None, 2)


def _status(cells: list[Cell]) -> list[str]:
    """Say what is missing of a row and column."""
    if not cells:
        return ["not run: not planned"]
    lines = []
    of = "" if len(cells) == 1 else f" of {len(cells)}"
    for state in STATES[1:]:  # all but done
        those = [cell for cell in cells if cell.state == state]
        if not those:
            continue
        count = "" if len(those) == len(cells) else f"{len(those)}{of} "
        line = count + state
        if those[0].why:
            line += f": {those[0].why}"
        if state == "failed" and those[0].log:
            line += f" (log: {those[0].log})"
        lines.append(line)
    return lines
