"""index.html, one page with everything inside, and report.md, the same for a terminal."""

import base64
import io
import itertools
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from baselines import styles
from scripts.reporting.data import Material, Run, Table, panels
from scripts.reporting.tables import DIRECT, Measure, Words, reason
from utils.figures import ERROR_SCALE, as_svg, caption, line_styles, psnr_figure, zoom_box
from utils.progress import duration
from utils.tables import markdown_table, mean_curve, shown

ITEMS_SHOWN = 6  # images of a setting that the page has room for
SIDE = 512  # pixels of a picture's longer side, less where there are more pictures than
PICTURES = 50  # of that size make some 8 MB, error maps included
MIN_SIDE = 128
DRAWING_SIDE = 1600  # pixels of a drawn figure's longer side
CHART = (4.6, 3.6)  # inches: less than a phone is wide, so that its text is legible there
JPEG_QUALITY = 85
HEAD = (
    "Method", "PSNR, dB", "paper", "difference", "SSIM", "paper", "difference", "n", "time",
    "paper's time", "",
)  # fmt: skip
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
    autoescape=lambda name: name == "page.html.j2", trim_blocks=True, lstrip_blocks=True,
    keep_trailing_newline=True,
)  # fmt: skip


def write_page(material: Material, words: list[Words]) -> str:
    """Write index.html of what was found, and of its tables in words, in the same order."""
    # Nearly each has an error map.
    side = picture_side(2 * sum(len(list(_shots(table))) for table in material.tables))
    tables = []
    for table, its_words in zip(material.tables, words, strict=True):
        name = "t-" + "".join(c if c.isalnum() else "-" for c in table.name)
        charts, pictures = _charts(table, name), _pictures(table, name, side)
        tables.append(
            {"id": name, "table": table, "words": its_words, "charts": charts, "pictures": pictures}
        )
    drawings = [
        {"drawing": d, "src": embed(open_picture(d.picture), DRAWING_SIDE)}
        for d in material.drawings
    ]
    return TEMPLATES.get_template("page.html.j2").render(
        material=material, tables=tables, drawings=drawings, side=side,
        environments=environments(material),
    )  # fmt: skip


def write_markdown(material: Material, words: list[Words]) -> str:
    """Write report.md, of the same as index.html."""
    text = TEMPLATES.get_template("report.md.j2").render(
        material=material, tables=list(zip(material.tables, words, strict=True)),
        summary=[line for its_words in words for line in its_words.summary],
        environments=environments(material),
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def picture_side(count: int) -> int:
    """Choose the longer side of the pictures so that the page stays small."""
    return max(min(SIDE, int(SIDE * math.sqrt(PICTURES / max(count, 1)))), MIN_SIDE)


def _charts(table: Table, name: str) -> list[dict[str, Any]]:
    """Return title, description, picture and curves of each chart of a table."""
    charts = []
    for title, curves in panels(table.settings, table.methods).items():
        found = {
            label: mean_curve((c.item, c.run.curve) for c in table.at(*of) if c.run is not None)
            for label, of in curves.items()
        }
        found = {label: c for label, c in found.items() if c is not None and len(c.steps) > 1}
        if found:
            ends = {label: f"{curve.mean[-1]:.2f} dB" for label, curve in found.items()}
            told = ", ".join(f"{label} ends at {end}" for label, end in ends.items())
            own = f"{name}-{len(charts)}"
            figure = psnr_figure({"": found}, styles(), size=CHART, legend=False)
            charts.append(
                {
                    "title": title,
                    "description": f"PSNR over the weight updates, {title}: {told}",
                    "svg": Markup(as_svg(figure, own)),
                    "curves": [
                        {
                            "id": f"{own}-curve-{i}",
                            "label": label,
                            "end": ends[label],
                            **_line(style),
                        }
                        for i, (label, style) in enumerate(line_styles(found, styles()).items())
                    ],
                }
            )
    return charts


def _line(style: dict[str, Any]) -> dict[str, str]:
    """Return colour and dashes of a line as SVG writes them."""
    from matplotlib.colors import to_hex

    ls = style.get("ls", "-")
    dashes = (
        {"-": (), "--": (6, 3), "-.": (6, 3, 2, 3), ":": (2, 3)}[ls]
        if isinstance(ls, str)
        else ls[1]
    )
    return {"color": to_hex(style["color"]), "dashes": " ".join(map(str, dashes))}


class Shot(NamedTuple):
    """A picture of a table."""

    setting: str
    item: str
    key: str  # `truth`, `input` or a method
    label: str  # for people
    run: Run  # whose it is

    @property
    def path(self) -> Path:
        """Its file."""
        return self.run.picture(self.key if self.key in ("truth", "input") else "result")

    @property
    def figures(self) -> dict[str, float | None]:
        """Its PSNR, SSIM and misfit, as far as the run has them; {} of the truth."""
        image = "input" if self.key == "input" else self.run.image
        known = {name: f"{name}_{image}" for name in ("psnr", "ssim", "misfit")}
        return {
            name: self.run.figure(key)
            for name, key in known.items()
            if self.key != "truth" and key in self.run.metrics
        }


def _shots(table: Table) -> Iterator[Shot]:
    """Yield the pictures of a table: truth and input once an image, and each method's result."""
    for setting in table.settings:
        here = [c for c in table.cells if c.setting == setting and c.run is not None]
        methods = {cell.item: {c.method for c in here if c.item == cell.item} for cell in here}
        for item in sorted(methods, key=lambda item: (-len(methods[item]), item))[:ITEMS_SHOWN]:
            cells = [c for c in here if c.item == item]
            for key, label in (("truth", "Truth"), ("input", DIRECT)):
                run = next((c.run for c in cells if c.run.picture(key)), None)
                if run is not None:
                    yield Shot(setting, item, key, label, run)
            for method, label in table.methods.items():
                mine = sorted((c for c in cells if c.method == method), key=lambda c: c.seed)
                if mine and mine[0].run.picture("result"):
                    yield Shot(setting, item, method, label, mine[0].run)


def _pictures(table: Table, name: str, side: int) -> list[dict[str, Any]]:
    """Return, for each setting with pictures, its images, each with all that there is of it."""
    groups = []
    for setting, of_setting in itertools.groupby(_shots(table), lambda shot: shot.setting):
        label = table.settings[setting]
        images = [
            {"item": item, **_image(list(shots), f"{item}, {label}", side)}
            for item, shots in itertools.groupby(of_setting, lambda shot: shot.item)
        ]
        groups.append({"label": label, "name": f"{name}-{len(groups)}", "images": images})
    return groups


def _image(shots: list[Shot], name: str, side: int) -> dict[str, Any]:
    """Return the pictures of one image with their error maps, and where its methods differ most."""
    opened = {shot.key: open_picture(shot.path) for shot in shots}
    psnr = [_finite(shot.figures.get("psnr")) for shot in shots if shot.key != "input"]
    best = f"{max(psnr):.2f}" if len([p for p in psnr if p > -math.inf]) > 1 else None
    found = []
    for shot in shots:
        image, truth = opened[shot.key], shot.run.picture("truth")
        error = None
        if image is not None and truth is not None and shot.key != "truth":
            error = error_map(image, open_picture(truth))
        marked = shot.key != "input" and shown(shot.figures.get("psnr"), 2) == best
        found.append(
            {
                "label": shot.label, "caption": caption(shot.figures), "best": marked,
                "alt": f"{name}, {shot.label}", "src": embed(image, side), "error": embed(error, side),
            }
        )  # fmt: skip
    results = [
        np.asarray(opened[s.key])
        for s in shots
        if s.key not in ("truth", "input") and opened[s.key]
    ]
    alike = [result for result in results if result.shape == results[0].shape]
    x = y = 50.0
    if alike:
        height, width = alike[0].shape[:2]
        truth = opened.get("truth")
        fits = truth is not None and truth.size == (width, height)
        row, column, box = zoom_box(alike, np.asarray(truth) if fits else alike[-1])
        x, y = (100 * at / max(room - box, 1) for at, room in ((column, width), (row, height)))
    return {"shots": found, "x": round(x), "y": round(y)}


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else -math.inf


def open_picture(path: Path) -> Image.Image | None:
    """Read a picture as 8-bit grey or colour; None if it is damaged."""
    try:
        with Image.open(path) as opened:
            return opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")
    except (OSError, ValueError, SyntaxError):
        return None


def error_map(image: Image.Image, truth: Image.Image | None) -> Image.Image | None:
    """Return ERROR_SCALE * |image - truth|, the mean over channels; None if they do not fit."""
    if truth is None or (image.size, image.mode) != (truth.size, truth.mode):
        return None
    error = np.abs(np.asarray(image, float) - np.asarray(truth, float))
    error = error.mean(axis=-1) if error.ndim == 3 else error
    return Image.fromarray((ERROR_SCALE * error).clip(0, 255).round().astype(np.uint8))


def embed(image: Image.Image | None, side: int) -> str | None:
    """Return a picture as a data URI, shrunk to a longer side; None of none."""
    if image is None:
        return None
    image = image.copy()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def environments(material: Material) -> list[tuple[str, str, str, int]]:
    """Count the runs by commit (with a word if it was changed), device and versions."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for run in {run.folder: run for table in material.tables for run in table.runs()}.values():
        commit = str(run.config.get("commit") or "unknown")
        if commit != "unknown":
            changed = " (dirty: files differed from it)" if run.config.get("dirty") else ""
            commit = commit[:10] + changed
        versions = ", ".join(f"{k} {v}" for k, v in run.config.get("versions", {}).items())
        counts[commit, run.metrics["device"], versions or "unknown"] += 1
    return [(*key, count) for key, count in sorted(counts.items())]


def number(text: str) -> str:
    """Write a table's number to four digits, other text as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    return text if text.lstrip("-").isdigit() else f"{value:.4g}"


def _results(words: Words, setting: str) -> str:
    rows = []
    for row in words.rows:
        e = row.entries[setting]
        # Without a run there is nothing that differs.
        marks = sorted(row.marks + e.marks, key=lambda x: (len(x), x)) if e.n else []
        label = row.label + ("†" if row.prior else "") + "".join(f" ({x})" for x in marks)
        seconds = e.seconds + (f" on {e.device}" if e.device else "")
        why = "; ".join(e.status)
        rows.append((label, *_cells(e.psnr), *_cells(e.ssim), e.n, seconds, e.minutes_paper, why))
    return markdown_table(HEAD, rows)


def _cells(of: Measure) -> tuple[str, str, str]:
    return of.ours + (f", {of.place}" if of.place else ""), of.paper, of.difference


def _beside(words: Words, setting: str) -> str:
    entries = [(row.label, row.entries[setting]) for row in words.rows]
    rows = [(label, e.ema, e.oracle) for label, e in entries if e.ema or e.oracle]
    return markdown_table(("Method", "average, dB", "oracle ◊, dB"), rows) if rows else ""


TEMPLATES.globals |= {
    "results": _results, "beside": _beside, "markdown_table": markdown_table, "reason": reason,
    "duration": duration, "shown": shown, "ITEMS_SHOWN": ITEMS_SHOWN, "ERROR_SCALE": ERROR_SCALE,
}  # fmt: skip
TEMPLATES.filters |= {
    "shell": shlex.join,
    "number": number,
    "numbers": lambda line: [number(text) for text in line],
    "plain": lambda text: text.replace("|", "\\|").replace("\n", " "),
    # A mean and its deviation stay on one line.
    "together": lambda text: text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"),
}
