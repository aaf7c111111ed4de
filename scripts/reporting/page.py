"""index.html, one page with everything inside, and report.md, the same for a terminal."""

import base64
import io
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from baselines import styles
from scripts.reporting.data import Material, Run, Table, panels
from scripts.reporting.tables import Words, reason
from utils.figures import as_svg, psnr_figure
from utils.progress import duration
from utils.tables import markdown_table, mean_curve

ITEMS_SHOWN = 6  # images of a setting that the page has room for
SIDE = 320  # pixels of a picture's longer side, less where there are more pictures than
PICTURES = 130  # of that size make some 8 MB
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
    side = picture_side(sum(len(list(_shots(table))) for table in material.tables))
    tables = []
    for table, its_words in zip(material.tables, words, strict=True):
        name = "t-" + "".join(c if c.isalnum() else "-" for c in table.name)
        charts, pictures = _charts(table, name), _pictures(table, name, side)
        tables.append(
            {"id": name, "table": table, "words": its_words, "charts": charts, "pictures": pictures}
        )
    drawings = [{"drawing": d, "src": embed(d.picture, DRAWING_SIDE)} for d in material.drawings]
    return TEMPLATES.get_template("page.html.j2").render(
        material=material, tables=tables, drawings=drawings, side=side,
        environments=environments(material),
    )  # fmt: skip


def write_markdown(material: Material, words: list[Words]) -> str:
    """Write report.md, of the same as index.html."""
    text = TEMPLATES.get_template("report.md.j2").render(
        material=material, tables=list(zip(material.tables, words, strict=True)),
        environments=environments(material),
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def picture_side(count: int) -> int:
    """Choose the longer side of the pictures so that the page stays small."""
    return max(min(SIDE, int(SIDE * math.sqrt(PICTURES / max(count, 1)))), MIN_SIDE)


def _charts(table: Table, name: str) -> list[tuple[str, str, Markup]]:
    """Return title, description and picture of each chart of a table."""
    charts = []
    for title, curves in panels(table.settings, table.methods).items():
        found = {
            label: mean_curve((c.item, c.run.curve) for c in table.at(*of) if c.run is not None)
            for label, of in curves.items()
        }
        found = {label: c for label, c in found.items() if c is not None and len(c.steps) > 1}
        if found:
            ends = ", ".join(f"{label} ends at {c.mean[-1]:.2f} dB" for label, c in found.items())
            svg = as_svg(psnr_figure({"": found}, styles(), size=CHART), f"{name}-{len(charts)}")
            charts.append((title, f"PSNR over the weight updates, {title}: {ends}", Markup(svg)))
    return charts


def _shots(table: Table) -> Iterator[tuple[str, str, str, str, Path]]:
    """Yield setting, item, key, caption and file of each picture of a table.

    They are truth and input once an image, and each method's result.
    """
    for setting in table.settings:
        here = [c for c in table.cells if c.setting == setting and c.run is not None]
        for item in sorted({cell.item for cell in here})[:ITEMS_SHOWN]:
            cells = [c for c in here if c.item == item]
            for key, label in (("truth", "truth"), ("input", "direct reconstruction")):
                run = next((c.run for c in cells if c.run.picture(key)), None)
                if run is not None:
                    score = _score(run, "input") if key == "input" else ""
                    yield setting, item, key, label + score, run.picture(key)
            for method, label in table.methods.items():
                mine = sorted((c for c in cells if c.method == method), key=lambda c: c.seed)
                path = mine[0].run.picture("result") if mine else None
                if path is not None:
                    yield setting, item, method, label + _score(mine[0].run), path


def _score(run: Run, image: str | None = None) -> str:
    psnr, ssim = (run.figure(f"{name}_{image or run.image}") for name in ("psnr", "ssim"))
    return "" if psnr is None or ssim is None else f": {psnr:.2f} dB, SSIM {ssim:.3f}"


def _pictures(table: Table, name: str, side: int) -> list[dict[str, Any]]:
    """Return, for each setting with pictures, what can be chosen and what is then shown."""
    names = {"truth": "truth", "input": "direct reconstruction", **table.methods}
    groups: dict[str, dict[str, Any]] = {}
    for setting, item, key, caption, path in _shots(table):
        label = table.settings[setting]
        group = groups.setdefault(setting, {"label": label, "images": {}, "shown": set()})
        alt = f"{item}, {label}, {caption}"
        shot = {"key": key, "alt": alt, "src": embed(path, side), "caption": caption}
        group["images"].setdefault(item, []).append(shot)
        group["shown"].add(key)
    for index, group in enumerate(groups.values()):
        group["name"] = f"{name}-{index}"
        choices = group["choices"] = {k: v for k, v in names.items() if k in group["shown"]}
        methods = [key for key in choices if key in table.methods]
        ours = [method for method in methods if method.startswith("aseqdip")]
        group["first"] = [*ours, *methods, *choices][0]
    return list(groups.values())


def embed(path: Path, side: int) -> str | None:
    """Return a picture as a data URI, shrunk to a longer side; None if it is damaged."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")
    except (OSError, ValueError, SyntaxError):
        return None
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
        rows.append((label, *e.psnr, *e.ssim, e.n, seconds, e.minutes_paper, why))
    return markdown_table(HEAD, rows)


def _beside(words: Words, setting: str) -> str:
    entries = [(row.label, row.entries[setting]) for row in words.rows]
    rows = [(label, e.ema, e.oracle) for label, e in entries if e.ema or e.oracle]
    return markdown_table(("Method", "average, dB", "oracle ◊, dB"), rows) if rows else ""


TEMPLATES.globals |= {
    "results": _results, "beside": _beside, "markdown_table": markdown_table, "reason": reason,
    "duration": duration, "ITEMS_SHOWN": ITEMS_SHOWN,
}  # fmt: skip
TEMPLATES.filters |= {
    "shell": shlex.join,
    "number": number,
    "numbers": lambda line: [number(text) for text in line],
    "plain": lambda text: text.replace("|", "\\|").replace("\n", " "),
    # A mean and its deviation stay on one line.
    "together": lambda text: text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"),
}
