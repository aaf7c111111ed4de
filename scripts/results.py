"""Write the tables of docs/results.md from the runs of scripts/best.sh.

    python -m scripts.results OUT                             # print the tables of these runs
    python -m scripts.results OUT --record docs/runs.csv      # keep them: one line a run
    python -m scripts.results docs/runs.csv --page docs/results.md --figure docs/images/summary.png

A summary comes first: for each problem the best classical method, the paper's aSeqDIP, the best, and
the best at full width.
OUT holds a folder for each variant (best, paper, public, ...), and in it the folders of the runs.
MRI and CT: a row a method, a column a scan. Pictures: a table for each setting, means over pictures
with their standard deviation, and how far the best method is ahead: the mean paired difference with
its standard error. A line below tells how its seeds differ. PSNR in dB / SSIM. Nothing is computed
anew. A page is filled where it has `<!-- table: mri -->` and `<!-- end -->`.
"""

import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from baselines import find
from scripts.reporting import records
from scripts.reporting.data import TASKS, natural, setting_label
from scripts.reporting.records import Record
from scripts.tasks import SCRIPTS
from utils.errors import exit_status, require
from utils.figures import empty_figure
from utils.files import encoded, write_atomically
from utils.flags import cli
from utils.tables import markdown_table, mean_over_images, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = tuple[str, str, str]  # variant, method, image
SCANS = ("mri", "ct")  # tasks of which each item is a column
BEST, FULL_WIDTH = "best", "full width"  # variants; the others are compared with the first
SHOWN = 10.0  # dB behind the best classical method that the figure shows


@dataclass
class Args:
    source: tyro.conf.Positional[Path]  # the OUT of scripts/best.sh, or a file of --record
    record: Path | None = None  # CSV file that the runs are added to, in place of older ones
    page: Path | None = None  # Markdown file whose tables are made anew
    figure: Path | None = None  # PNG file for the summary as a figure


@dataclass(frozen=True)
class Summed:
    """The summary's line on one problem: mean PSNR in dB over the items of the best method."""

    title: str
    items: int
    direct: float
    classical: tuple[str, float] | None  # label and PSNR of the best that fits no network
    paper: float | None  # aSeqDIP of the variant `paper`
    best: tuple[str, float]
    full_width: float | None  # the same with networks of width 64
    gain: tuple[float, float] | None  # over the classical one, and its standard error


def read(source: Path) -> list[Record]:
    """Return the finished runs of a folder or of a file of --record.

    Raises:
        InputError: there is none.
    """
    require(source.exists(), f"{source}: no such file or folder; give the OUT of scripts/best.sh")
    found = records.of_folder(source) if source.is_dir() else records.read(source)
    require(bool(found), f"{source}: no finished runs; scripts/best.sh makes them")
    return found


def summary(runs: list[Record]) -> list[Summed]:
    """Sum up each problem that the best method has solved: in MRI and CT each scan, else each setting."""
    problems: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for run in runs:
        problems[run.task, run.item if run.task in SCANS else "", run.setting].append(run)
    tasks = list(TASKS)
    lines = []
    for task, item, setting in sorted(
        problems, key=lambda at: (tasks.index(at[0]), at[1], natural(at[2]))
    ):
        title = f"{item}, {setting_label(setting)}".removeprefix(", ")
        line = summed(task, title, problems[task, item, setting])
        lines += [] if line is None else [line]
    return lines


def summed(task: str, problem: str, runs: list[Record]) -> Summed | None:
    """Sum up one problem, None where the best method has not run."""
    name = "psnr_hole" if task == "inpainting" else "psnr"
    rows = rows_of(task, runs)
    method = best_of(task, rows)
    best = rows.get((BEST, method, "final"), [])
    items = {run.item for run in best}

    def mean(mine: list[Record], image: str) -> float | None:
        mine = [run for run in mine if run.item in items]
        if {run.item for run in mine} != items:  # means of the same items alone
            return None
        found = mean_over_images((run.item, run.figure(name, image)) for run in mine)
        return None if found is None else found.mean

    reached = mean(best, "final")
    if not items or reached is None:
        return None
    classical = {
        other: psnr
        for (variant, other, image), mine in rows.items()
        if variant == BEST and image == "final" and other and is_classical(other)
        if (psnr := mean(mine, image)) is not None
    }
    top = max(classical, key=classical.get, default=None)
    return Summed(
        f"{TASKS[task]}: {problem}",
        len(items),
        mean(rows["", "", "input"], "input"),
        None if top is None else (find(top).label, classical[top]),
        mean(rows.get(("paper", "aseqdip", "final"), []), "final"),
        (find(method).label, reached),
        mean(rows.get((FULL_WIDTH, method, "final"), []), "final"),
        None if top is None else ahead(best, rows[BEST, top, "final"], name, "final"),
    )


def summary_table(lines: list[Summed]) -> str:
    """Write the summary as Markdown."""
    head = (
        "",
        "items",
        "direct",
        "best classical",
        "the paper's aSeqDIP",
        "`best`",
        "gain over classical",
        "`best`, full width",
    )
    cells = [
        (
            line.title,
            line.items,
            shown(line.direct, 2),
            line.classical and f"{line.classical[0]} {line.classical[1]:.2f}",
            line.paper and f"{line.paper:.2f}",
            f"{line.best[0]} **{line.best[1]:.2f}**",
            signed(line.gain),
            line.full_width and f"{line.full_width:.2f}",
        )
        for line in lines
    ]
    return markdown_table(head, cells)


def summary_figure(lines: list[Summed]) -> "Figure":
    """Draw the summary: a row a problem, a mark a method, by how much it is ahead of a classical one."""
    lines = [line for line in lines if line.classical is not None]
    figure = empty_figure(8.0, 0.32 * len(lines) + 1.1)
    axis = figure.subplots()
    marks = {  # label: PSNR of each line, marker, colour, colour of its inside
        "the paper's aSeqDIP": ([line.paper for line in lines], "o", "#6b4c9a", None),
        "--preset best, with its standard error": (
            [line.best[1] for line in lines], "D", "#0b6e2e", None,
        ),
        "... at full width": ([line.full_width for line in lines], "o", "#d100d1", "none"),
    }  # fmt: skip
    rows = range(len(lines), 0, -1)
    for label, (psnr, mark, color, face) in marks.items():
        ahead_by = [
            math.nan if p is None else p - line.classical[1] for p, line in zip(psnr, lines)
        ]
        inside = [max(gain, -SHOWN) for gain in ahead_by]  # NaN stays
        style = {"marker": mark, "color": color, "mfc": face, "markersize": 6}
        axis.plot(inside, rows, ls="", label=label, **style)
        for gain, row in zip(ahead_by, rows):
            if gain < -SHOWN:
                axis.annotate(f"  {gain:.1f}", (-SHOWN, row), fontsize=8, va="center")
    errors = [line.gain[1] for line in lines]
    gains = [line.gain[0] for line in lines]
    axis.errorbar(gains, rows, xerr=errors, ls="", ecolor="#0b6e2e", capsize=3, lw=1)
    axis.axvline(0, color="#b35900", lw=1.5, label="the best classical method", zorder=0)
    axis.set_yticks(rows, [line.title for line in lines], fontsize=8)
    axis.set(xlabel="PSNR above that of the best classical method (dB)")
    axis.set(ylim=(0.4, len(lines) + 0.6), xlim=(-SHOWN - 0.5, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.3, 1.0), frameon=False)
    figure.tight_layout(pad=0.5)
    return figure


def tables(runs: list[Record]) -> dict[str, str]:
    """Return the tables as Markdown, the summary first, then by task."""
    found = {"summary": summary_table(summary(runs))}
    for task in TASKS:
        mine = [run for run in runs if run.task == task]
        if mine:
            found[task] = of_scans(task, mine) if task in SCANS else of_pictures(task, mine)
    return found


def filled(page: str, tables: dict[str, str]) -> str:
    """Put tables where a page has their marks; what else it says stays."""

    marks = page.count("<!-- table: "), page.count("<!-- end -->")
    require(
        marks[0] == marks[1] > 0,
        f"the page has {marks[0]} of `<!-- table: NAME -->` and {marks[1]} of `<!-- end -->`; "
        "expected as many of both, one at least",
    )

    def table(found: re.Match) -> str:
        name = found[1]
        require(name in tables, f"the page has `table: {name}`; there are {', '.join(tables)}")
        return f"<!-- table: {name} -->\n\n{tables[name].rstrip()}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


def best_methods(task: str) -> list[str]:
    """Name the methods of a task's --preset best; one that is for noise alone comes first."""
    presets = (getattr(SCRIPTS[task], name, {}) for name in ("NOISY", "BEST"))
    return [preset["method"].split(",")[-1] for preset in presets if preset]


def best_of(task: str, rows: Container[Row]) -> str:
    """Name the method of --preset best on a problem with these rows."""
    *noisy, usual = best_methods(task)
    return next((method for method in noisy if (BEST, method, "final") in rows), usual)


def is_classical(name: str) -> bool:
    """Tell whether a method fits no network and needs no prior data."""
    method = find(name)
    return not method.iterative and method.needs is None and not method.parts


def rows_of(task: str, runs: list[Record]) -> dict[Row, list[Record]]:
    """Sort runs into rows: the direct image, classical methods, networks, the best."""
    rows: dict[Row, list[Record]] = defaultdict(list)
    for run in runs:
        rows[run.variant, run.method, "final"].append(run)
        if run.figure("psnr", "unfinished") is not None:
            rows[run.variant, run.method, "unfinished"].append(run)
        rows["", "", "input"].append(run)

    def place(row: Row) -> tuple[bool, bool, bool, str, str, str]:
        variant, method, image = row
        return (
            image != "input",
            variant == BEST and method in best_methods(task),
            bool(method) and not is_classical(method),
            variant,
            method,
            image,
        )

    return {row: rows[row] for row in sorted(rows, key=place)}


def label(task: str, row: Row) -> str:
    """Name a row for people."""
    variant, method, image = row
    if image == "input":
        return "direct image"
    name = find(method).label + (f", {variant}" if variant != BEST else "")
    if variant == BEST and method in best_methods(task):
        *noisy, _ = best_methods(task)
        when = " with noise" if method in noisy else " without noise"
        name = f"**{name}, best{when}**" if noisy else f"**best: {name}**"
    return f"... before the last step ({name.strip('*')})" if image == "unfinished" else name


def of_scans(task: str, runs: list[Record]) -> str:
    """Write the table of a task whose items are columns."""
    columns = sorted(
        {(run.item, run.setting) for run in runs}, key=lambda at: (at[0], natural(at[1]))
    )
    lines, seen = [], {}
    for row, mine in rows_of(task, runs).items():
        cells = []
        for column in columns:
            here = [run for run in mine if (run.item, run.setting) == column]
            cells.append(cell(here, row[2]))
        # Zero-filled is the direct image, and a last step may change nothing.
        seen[row] = cells
        if cells in [seen.get(r) for r in (("", "", "input"), (*row[:2], "final")) if r != row]:
            continue
        lines.append((label(task, row), *cells, "" if row[2] == "input" else spread(mine)))
    heads = [f"{item}, {setting_label(setting)}" for item, setting in columns]
    return markdown_table(("", *heads, "seconds"), lines)


def cell(runs: list[Record], image: str) -> str:
    """Write PSNR and SSIM of one scan: the mean of its seeds, and how these differ."""
    psnr = [p for run in runs if (p := run.figure("psnr", image)) is not None]
    ssim = [s for run in runs if (s := run.figure("ssim", image)) is not None]
    if not psnr or not ssim:
        return ""
    if image == "input":  # the same for all
        psnr, ssim = psnr[:1], ssim[:1]
    more = f" ± {statistics.stdev(psnr):.2f}, {len(psnr)} seeds" if len(psnr) > 1 else ""
    return f"{math.fsum(psnr) / len(psnr):.2f}{more} / {math.fsum(ssim) / len(ssim):.3f}"


def spread(runs: list[Record]) -> str:
    """Write the range of the times of some runs."""
    seconds = [run.seconds for run in runs]
    low, high = (f"{s:.0f}" if s >= 1 else "<1" for s in (min(seconds), max(seconds)))
    return low if low == high else f"{low} to {high}"


def of_pictures(task: str, runs: list[Record]) -> str:
    """Write a table for each setting of a task for pictures."""
    text = ""
    for setting in sorted({run.setting for run in runs}, key=natural):
        # What a method for holes is judged by is the hole.
        name = "psnr_hole" if task == "inpainting" else "psnr"
        rows = rows_of(task, [run for run in runs if run.setting == setting])
        top = (BEST, best_of(task, rows), "final")
        best = rows.get(top, [])
        lines, before = [], None
        for row, mine in rows.items():
            psnr = mean_over_images((run.item, run.figure(name, row[2])) for run in mine)
            ssim = mean_over_images((run.item, run.figure("ssim", row[2])) for run in mine)
            if psnr is None or ssim is None:
                continue
            std = "" if psnr.std is None else f" ± {psnr.std:.2f}"
            reached = f"{psnr.mean:.2f}{std} / {ssim.mean:.3f}"
            if row[2] == "unfinished" and reached == before:  # the last step changed nothing
                continue
            before = reached
            lines.append(
                (
                    label(task, row),
                    psnr.n,
                    reached,
                    "" if row == top else signed(ahead(best, mine, name, row[2])),
                    "" if row[2] == "input" else spread(mine),
                )
            )
        where = ", PSNR in the hole, SSIM of the whole" if task == "inpainting" else ""
        head = ("", "pictures", "PSNR / SSIM", "best is ahead by", "seconds")
        text += f"**{setting_label(setting)}**{where}\n\n" + markdown_table(head, lines) + "\n"
        text += seeds_of(best, name)
    return text


def seeds_of(runs: list[Record], name: str) -> str:
    """Write how the seeds of the best method differ, for each picture that has several."""
    text = ""
    for item, psnr in sorted(by_item(runs, name, "final").items()):
        if len(psnr) > 1:
            told = f"{math.fsum(psnr) / len(psnr):.2f} ± {statistics.stdev(psnr):.2f} dB"
            text += f"`best` on {item} with {len(psnr)} seeds: {told}.\n\n"
    return text


def by_item(runs: list[Record], name: str, image: str) -> dict[str, list[float]]:
    """Return the figures of each item, one a seed."""
    of_item: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        value = run.figure(name, image)
        if value is not None:
            of_item[run.item].append(value)
    return of_item


def ahead(
    best: list[Record], others: list[Record], name: str, image: str
) -> tuple[float, float] | None:
    """Return the mean paired difference over the pictures that both have, None where there are none.

    Its standard error comes with it, NaN of one picture.
    """
    means = [
        {item: math.fsum(v) / len(v) for item, v in by_item(runs, name, which).items()}
        for runs, which in ((best, "final"), (others, image))
    ]
    differences = [means[0][item] - means[1][item] for item in means[0].keys() & means[1].keys()]
    if not differences:
        return None
    n = len(differences)
    error = statistics.stdev(differences) / math.sqrt(n) if n > 1 else math.nan
    return math.fsum(differences) / n, error


def signed(difference: tuple[float, float] | None) -> str:
    """Write what `ahead` returns."""
    if difference is None:
        return ""
    mean, error = round(difference[0], 2) + 0.0, difference[1]  # no -0.00
    return f"{mean:+.2f}" + (f" ± {error:.2f}" if math.isfinite(error) else "")


def write(args: Args) -> None:
    """Keep the runs, fill the page and draw the summary where these are asked for, else print."""
    runs = read(args.source)
    if args.record is not None:
        kept = records.read(args.record) if args.record.exists() else []
        runs = records.merged(kept, runs)
        records.write(args.record, runs)
        runs = records.read(args.record)  # rounded
    if args.page is not None:
        page = filled(args.page.read_text(encoding="utf-8"), tables(runs))
        write_atomically(args.page, lambda file: file.write(encoded(page)))
    if args.figure is not None:
        drawn = summary_figure(summary(runs))
        write_atomically(args.figure, lambda file: drawn.savefig(file, format="png"))
    if args.record is None and args.page is None:
        for name, table in tables(runs).items():
            print(f"## {TASKS.get(name, 'Summary')}\n\n{table}")


def main() -> int:
    args = cli(Args, description=__doc__)
    return exit_status(lambda: write(args))


if __name__ == "__main__":
    sys.exit(main())
