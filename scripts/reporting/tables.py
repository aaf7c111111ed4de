"""The words of a table: our figures, the paper's, their difference, places and marks, as text.

report.md and index.html both show what is built here, so that they cannot disagree.
"""

import itertools
import math
import string
from dataclasses import dataclass, field
from typing import NamedTuple

from scripts.reporting.data import STATES, Cell, Table
from scripts.reporting.differences import differences, weights
from utils.figures import percent
from utils.paper import METHODS, Figure, figures_beside, methods_beside, why_absent
from utils.progress import duration
from utils.tables import Summary, mean_over_images, shown

PRIOR = {
    "reference",
    "prior_measurements",
    "prior",
    "varnet",
}  # what runs record that used prior data
PLACES = ("best", "second best")
DIRECT = "Direct reconstruction"
DIGITS = {"psnr": 2, "ssim": 3}
NAMED = 6  # images that the facts of a table name


class Measure(NamedTuple):
    """PSNR or SSIM of one row and column; empty strings for what there is not."""

    ours: str
    paper: str
    difference: str
    place: str = ""  # one of PLACES


@dataclass
class Entry:
    """One row and column; empty for what there is not."""

    psnr: Measure  # of the results
    ssim: Measure
    n: str = ""  # images, and seeds where there are several
    seconds: str = ""  # mean time of a run
    minutes_paper: str = ""
    device: str = ""  # where the runs were made, if not all of the table were made on one
    marks: list[str] = field(default_factory=list)  # letters that hold here, not in the whole row
    status: list[str] = field(default_factory=list)  # what is missing and why, a line each
    ema: str = ""  # PSNR of the averaged image
    oracle: str = ""  # PSNR of the best image by the truth, with its step


@dataclass
class Row:
    """One method."""

    label: str
    prior: bool  # uses prior data or a pre-trained network, by the paper or by what runs recorded
    marks: list[str]  # letters of the legend that hold in each column with a run
    entries: dict[str, Entry]  # by setting

    @property
    def beside(self) -> bool:
        """Whether there is an average or an oracle."""
        return any(entry.ema or entry.oracle for entry in self.entries.values())


@dataclass(frozen=True)
class Comparison:
    """The methods of one column on the images that all of them have."""

    images: list[str]  # which these are
    of: int  # how many images the column has
    means: dict[str, float]  # method -> mean of PSNR or SSIM over them, highest first; finite
    digits: int  # of a figure that is shown

    def at(self, place: str) -> list[str]:
        """Return the methods at one of PLACES: equal figures share it."""
        return [method for method in self.means if self.place(method) == place]

    def place(self, method: str) -> str:
        """Return one of PLACES; empty for no place, or for a method that stands alone."""
        texts = {name: f"{mean:.{self.digits}f}" for name, mean in self.means.items()}
        if len(texts) < 2 or method not in texts:
            return ""
        return dict(zip(dict.fromkeys(texts.values()), PLACES)).get(texts[method], "")


class Sum(NamedTuple):
    """One column of a table in a line of the summary, PSNR in dB; empty for what there is not."""

    column: str
    images: str  # how many all methods have, and of how many where these are more
    direct: str  # the direct reconstruction of them
    best: str  # figure and method
    second: str  # likewise
    paper: str  # aSeqDIP in the paper


@dataclass
class Words:
    """A table in words."""

    rows: list[Row]  # the direct reconstruction, the paper's methods in its order, then ours
    legend: dict[str, str]  # letter -> what differs from the paper
    summary: list[Sum]
    notes: list[str]  # columns whose methods have not run on the same images, a sentence each
    facts: str  # how many runs are done, failed, left, not run; their images and devices
    two_columns: bool  # whether both of the paper's CT columns stand beside ours


def write_words(table: Table, figures: list[Figure]) -> Words:
    """Put a table in words, beside the figures of paper_figures."""
    found = {
        (setting, method): differences(
            table.at(setting, method), table.number, table.data_sets.get(setting), table.images
        )
        for method in table.methods
        for setting in table.settings
    }
    texts = dict.fromkeys(text for texts in found.values() for text in texts)
    doubled = map("".join, itertools.product(string.ascii_lowercase, repeat=2))
    letters = dict(zip(texts, itertools.chain(string.ascii_lowercase, doubled)))
    devices = _devices(table.cells)
    psnr, ssim = ({s: compare(table, s, name) for s in table.settings} for name in ("psnr", "ssim"))
    direct = {s: _direct([c for c in table.cells if c.setting == s]) for s in table.settings}
    rows = [Row(DIRECT, False, [], direct)] if any(e.n for e in direct.values()) else []
    for method, label in _methods(table, figures).items():
        # Without a plan, `method | what differs` are several rows of one method.
        name = method.partition(" | ")[0]
        cells = {setting: table.at(setting, method) for setting in table.settings}
        with_runs = [s for s in table.settings if any(cell.run for cell in cells[s])]
        common = [t for t in texts if with_runs and all(t in found[s, method] for s in with_runs)]
        entries = {}
        for setting in table.settings:
            here = cells[setting]
            entry = _entry(here, figures_beside(figures, table.number, setting, name))
            entry.psnr = entry.psnr._replace(place=psnr[setting].place(method))
            entry.ssim = entry.ssim._replace(place=ssim[setting].place(method))
            if not here and table.planned:
                known = method in table.methods
                entry.status = [f"not run: {'not planned' if known else why_absent(name)}"]
            entry.device = "; ".join(_devices(here)) if len(devices) > 1 else ""
            entry.marks = [letters[t] for t in found.get((setting, method), []) if t not in common]
            entries[setting] = entry
        prior = any(f.method == name and not f.data_independent for f in figures) or any(
            c.run and PRIOR & set(c.run.metrics) for c in table.cells if c.method == method
        )
        rows.append(Row(label, prior, [letters[text] for text in common], entries))
    return Words(
        rows=rows,
        legend={letter: text for text, letter in letters.items()},
        summary=[_sum(table, setting, psnr[setting], figures) for setting in table.settings],
        notes=[
            f"{table.settings[s]}: the methods have not run on the same images. The best and the "
            f"second best are those on the images that all methods have, {len(c.images)} of {c.of}."
            for s, c in psnr.items()
            if 0 < len(c.images) < c.of
        ],
        facts=_facts(table, devices),
        two_columns=any(" or " in e.psnr.paper for row in rows for e in row.entries.values()),
    )


def compare(table: Table, setting: str, name: str) -> Comparison:
    """Compare `psnr` or `ssim` of the methods of a column, on the images that all of them have."""
    found = {}
    for method in table.methods:
        done = [c for c in table.at(setting, method) if c.run is not None]
        figures = [(c.item, c.run.result(name)) for c in done]
        found[method] = [(item, value) for item, value in figures if value is not None]
    of_method = [{item for item, _ in figures} for figures in found.values() if figures]
    common = set.intersection(*of_method) if of_method else set()
    means = {
        method: mean.mean
        for method, figures in found.items()
        if (mean := mean_over_images(f for f in figures if f[0] in common)) is not None
        and math.isfinite(mean.mean)
    }
    means = {method: means[method] for method in sorted(means, key=means.get, reverse=True)}
    return Comparison(sorted(common), len(set().union(*of_method)), means, DIGITS[name])


def _sum(table: Table, setting: str, compared: Comparison, figures: list[Figure]) -> Sum:
    """Sum up a column."""
    n, of = len(compared.images), compared.of
    done = [c for c in table.cells if c.setting == setting and c.run is not None]
    direct = _over_images([c for c in done if c.item in compared.images], "psnr_input")

    def placed(place: str) -> str:
        # A method that stands alone is shown, though it has no place.
        names = compared.at(place) if len(compared.means) > 1 else list(compared.means)
        named = ", ".join(table.methods[name] for name in names)
        return f"{compared.means[names[0]]:.{compared.digits}f} {named}" if names else ""

    best, second = placed(PLACES[0]), placed(PLACES[1]) if len(compared.means) > 1 else ""
    if not done:
        best = "no finished run"
    elif not of:
        best = "no truth to compare with"
    elif not n:
        best = "no image that all methods have"
    elif not best:
        best = "no figure that is finite"
    paper = [f.psnr for f in figures_beside(figures, table.number, setting, "aseqdip")]
    return Sum(
        f"{table.title}, {table.settings[setting]}",
        f"{n} of {of}" if n < of else str(n or ""),
        _plain(direct),
        best,
        second,
        " or ".join(f"{psnr:.2f}" for psnr in paper),
    )


def _direct(cells: list[Cell]) -> Entry:
    """Return the direct reconstruction of a column."""
    psnr, ssim = (_over_images(cells, f"{name}_input") for name in DIGITS)
    empty = Measure("", "", "")
    if psnr is None or ssim is None:
        return Entry(empty, empty)
    measures = (_mean(s.mean, s.std, d) for s, d in zip((psnr, ssim), DIGITS.values()))
    return Entry(*(Measure(text, "", "") for text in measures), n=str(psnr.n))


def _methods(table: Table, figures: list[Figure]) -> dict[str, str]:
    """Put the methods of the paper's table first, those that a plan does not list among them."""
    if not table.planned:
        return table.methods
    paper = methods_beside(figures, table.number, table.settings)
    return {name: METHODS.get(name, name) for name in paper} | table.methods


def _devices(cells: list[Cell]) -> list[str]:
    return sorted({cell.run.metrics["device"] for cell in cells if cell.run is not None})


def _facts(table: Table, devices: list[str]) -> str:
    n, left = len(table.cells), table.count("waiting") + table.count("running")
    counts = [(table.count(state), state) for state in ("done", "failed", "not run")]
    counts.insert(2, (left, "left"))
    shown = ", ".join(f"{n} {word}" for n, word in counts if n or word == "done")
    facts = [f"{n} run{'' if n == 1 else 's'}: {shown}"]
    if devices:
        items = sorted({c.item for c in table.cells if c.run})
        more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
        facts.append(f"Images: {', '.join(items[:NAMED])}{more}")
        networks = [r.settings.get("precision") for r in table.runs() if r.metrics.get("steps")]
        precisions = " and ".join(sorted(set(filter(None, networks))))
        networks = f", networks in {precisions}" if precisions else ""
        facts.append(f"Made on {'; '.join(devices)}{networks}")
    done = [(table.methods[c.method], weights(c.run)) for c in table.cells if c.run is not None]
    of = [f"{label} with {file}" for label, file in dict.fromkeys(done) if file is not None]
    if of:
        facts.append(f"Weights trained elsewhere: {'; '.join(of)}")
    return ". ".join(facts) + "."


def _over_images(cells: list[Cell], name: str) -> Summary | None:
    return mean_over_images((c.item, c.run.figure(name)) for c in cells if c.run is not None)


def _entry(cells: list[Cell], beside: list[Figure]) -> Entry:
    done = [cell for cell in cells if cell.run is not None]
    psnr, ssim = (_measure(done, beside, *of) for of in DIGITS.items())
    entry = Entry(psnr, ssim, status=_status(cells))
    if done:
        seeds = len({cell.seed for cell in done})
        entry.n = str(len({cell.item for cell in done}))
        entry.n += f" x {seeds} seeds" if seeds > 1 else ""
        entry.seconds = duration(_over_images(done, "seconds").mean)
        if all(cell.run.result("psnr") is None for cell in done):
            misfit = mean_over_images((c.item, c.run.result("misfit")) for c in done)
            told = f"; misfit {percent(misfit.mean)}" if misfit is not None else ""
            entry.status.append(f"no truth to compare with{told}")
        entry.ema = _plain(_over_images(done, "psnr_ema"))
        entry.oracle = _plain(_over_images(done, "psnr_oracle"))
        at = _over_images(done, "step_oracle")
        if at is not None:
            entry.oracle += f" at {shown(at.mean, 0)}"
    if beside and beside[0].minutes is not None:  # the paper gives one time for both settings
        entry.minutes_paper = f"{beside[0].minutes:g} min"
    return entry


def _measure(done: list[Cell], beside: list[Figure], name: str, digits: int) -> Measure:
    ours = mean_over_images((c.item, c.run.result(name)) for c in done)
    paper = [(getattr(f, name), getattr(f, f"{name}_std")) for f in beside]
    printed = [(mean, std) for mean, std in paper if mean is not None]
    difference = []
    if ours is not None and math.isfinite(ours.mean):
        difference = [signed(ours.mean - mean, digits) for mean, _ in printed]
    return Measure(
        "" if ours is None else _mean(ours.mean, ours.std, digits),
        " or ".join(_mean(mean, std, digits) for mean, std in printed),
        " or ".join(difference),
    )


def _mean(mean: float, std: float | None, digits: int) -> str:
    return shown(mean, digits) + ("" if std is None else f" \N{PLUS-MINUS SIGN} {std:.{digits}f}")


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign; what rounds to zero has none."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else ("\N{MINUS SIGN}" if value < 0 else "+") + text


def _plain(summary: Summary | None) -> str:
    return "" if summary is None else _mean(summary.mean, None, 2)


def _status(cells: list[Cell]) -> list[str]:
    """Say what is missing of a row and column."""
    lines = []
    for state in STATES[1:]:  # all but done
        those = [cell for cell in cells if cell.state == state]
        if those:
            count = "" if len(those) == len(cells) else f"{len(those)} of {len(cells)} "
            lines.append(count + state + reason(those[0]))
    return lines


def reason(cell: Cell) -> str:
    """Say why a cell failed or was not run, after a colon, and where its log is."""
    log = f" (log: {cell.log})" if cell.state == "failed" and cell.log else ""
    return (f": {cell.why}" if cell.why else "") + log
