"""index.html: one page with everything inside, for screens of any width and for print."""

import base64
import io
import math
import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from reporting.curves import COLOURS, charts, dash, draw
from reporting.data import Cell, Drawing, Material, Run, Table
from reporting.tables import Entry, Measure, Row, Words, made_on
from utils.runs import duration

HERE = Path(__file__).resolve().parent
TITLE = "aSeqDIP: our figures beside the paper's"
PAPER = (
    "Alkhouri, Liang, Bell, Qu, Wang, Ravishankar: Image Reconstruction Via Autoencoding "
    "Sequential Deep Image Prior, NeurIPS 2024"
)
ITEMS_SHOWN = 6  # images of a setting that the page has room for
SIDE = 320  # pixels of a picture's longer side, less where there are more pictures than
PICTURES = 130  # of that size make some 8 MB
MIN_SIDE = 128
DRAWING_SIDE = 1600  # pixels of a drawn figure's longer side
JPEG_QUALITY = 85
READING = {  # what must be known to read any table
    "Ours": "mean ± standard deviation over images of the result that needs no truth: the last "
    "iterate, or the image that a method's own rule or --stop chooses; n images.",
    "Paper": "mean ± standard deviation over 20 images, times of an RTX 5000 averaged over a "
    "task's settings. What follows it is the difference, ours minus the paper's.",
    "Letters": "name what makes a row another experiment than the paper's; its difference is then "
    "for orientation only.",
    "†": "uses prior data or a pre-trained network.",
    "Direct": "the direct reconstruction: noisy, masked or blurred picture, FBP, zero-filled.",
    "Average": "running mean of the iterates (EMA), made without the truth.",
    "◊ Oracle": "the best iterate and its step, chosen by looking at the truth. It shows what "
    "stopping costs, and is not a result.",
}
CT_NOTE = (
    "The paper calls CT's columns 18 and 30 views (Table 1, section 4.3), but every method is worse "
    "in the second, which more views cannot cause. So both stand beside each of ours."
)


def write_page(material: Material, words: list[Words]) -> str:
    """Write index.html.

    Args:
        material: what was found.
        words: its tables in words, in the same order.
    """
    tables = list(zip(material.tables, words, strict=True))
    side = picture_side(sum(len(list(_shots(table))) for table in material.tables))
    links = "".join(f'<a href="#{_id(t)}">{escape(t.title)}</a>' for t in material.tables)
    if material.drawings:
        links += '<a href="#drawn">Figures</a>'
    if tables:
        links += '<a href="#behind">Versions</a>'
    body = [
        f"<header><h1>{TITLE}</h1><p>{PAPER}.</p>",
        f'<nav aria-label="Contents">{links}</nav>'
        if links
        else '<p class="empty">There is no finished run yet.</p>',
        _reading() if tables else "",
        "</header><main>",
    ]
    if material.problems:
        lines = "".join(f"<li>{escape(line)}</li>" for line in material.problems)
        body.append(f'<section class="problems"><h2>Not readable</h2><ul>{lines}</ul></section>')
    if material.unplanned:
        body.append(f"<p>{unplanned_note(material.unplanned)}</p>")
    body += [_section(table, its_words, side) for table, its_words in tables]
    if material.drawings:
        drawn = "".join(map(_drawing, material.drawings))
        body.append(f'<section id="drawn"><h2>Figures</h2>{drawn}</section>')
    if tables:
        body.append(_versions([run for table, _ in tables for run in table.runs()]))
    body.append("</main>")
    style, script = ((HERE / name).read_text() for name in ("page.css", "page.js"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Without an icon of its own, a browser would ask the server for one.
        f'<link rel="icon" href="data:,"><title>{TITLE}</title><style>{style}</style>'
        f"</head><body>{''.join(body)}<script>{script}</script></body></html>\n"
    )


def _reading() -> str:
    lines = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in READING.items())
    return f'<dl class="reading">{lines}</dl>'


def has_two_columns(words: Words) -> bool:
    """Tell whether both of the paper's CT columns stand beside ours."""
    return any(" or " in e.psnr.paper for row in words.rows for e in row.entries.values())


def unplanned_note(count: int) -> str:
    """Say that there are runs that no table shows."""
    runs = "1 finished run" if count == 1 else f"{count} finished runs"
    return f"{runs} under results/ belong to none of these tables."


def picture_side(count: int) -> int:
    """Choose the longer side of the pictures so that the page stays small."""
    return max(min(SIDE, int(SIDE * math.sqrt(PICTURES / max(count, 1)))), MIN_SIDE)


def _id(table: Table) -> str:
    return "t-" + "".join(c if c.isalnum() else "-" for c in table.name)


def _section(table: Table, words: Words, side: int) -> str:
    facts = [words.states]
    if words.items:
        facts.append(f"Images: {', '.join(words.items)}")
    if words.devices:
        facts.append(f"Made on {made_on(words)}")
    parts = [
        f'<section id="{_id(table)}"><h2>{escape(table.title)}</h2>',
        f'<p class="facts">{escape(". ".join(facts))}.</p>',
        f'<p class="notes">{escape(table.note)}</p>' if table.note else "",
        _results(table, words),
        _legend(table, words),
        _apart(table, words),
        _charts(table),
        _pictures(table, side),
        _cells(table),
        "</section>",
    ]
    return "".join(parts)


# The table -----------------------------------------------------------------------------------


def _results(table: Table, words: Words) -> str:
    head = "".join(
        f'<th colspan="3" scope="colgroup">{escape(label)}</th>'
        for label in table.settings.values()
    )
    columns = '<th scope="col">PSNR, dB</th><th scope="col">SSIM</th><th scope="col">time, n</th>'
    rows = "".join(
        f'<tr><th scope="row">{_name(row, table)}</th>'
        + "".join(_result(row.entries[setting], label) for setting, label in table.settings.items())
        + "</tr>"
        for row in words.rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f'<table class="results"><thead><tr><th rowspan="2" scope="col">Method</th>{head}</tr>'
        f"<tr>{columns * len(table.settings)}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _name(row: Row, table: Table) -> str:
    prior = f'<abbr title="{READING["†"]}">†</abbr>' if row.prior else ""
    return escape(row.label) + prior + _marks(row.marks, _id(table))


def _marks(letters: str, anchor: str) -> str:
    if not letters:
        return ""
    links = " ".join(f'<a href="#{anchor}-{x}">{x}</a>' for x in letters.split())
    return f' <sup class="marks">{links}</sup>'


def _result(entry: Entry, label: str) -> str:
    status = "".join(f'<div class="status">{escape(line)}</div>' for line in entry.status)
    marks = f' <sup class="marks">{entry.marks}</sup>' if entry.marks else ""
    label = escape(label)
    time = entry.seconds and f'<div class="ours">{entry.seconds}</div><div>n = {entry.n}</div>'
    if entry.device:
        time += f"<div>{escape(entry.device)}</div>"
    if entry.minutes_paper:
        time += f'<div class="paper">paper&nbsp;{entry.minutes_paper.replace(" ", "&nbsp;")}</div>'
    return (
        f'<td class="first" data-label="{label}: PSNR, dB">{_measure(entry.psnr, marks)}{status}'
        f'</td><td data-label="SSIM">{_measure(entry.ssim, "")}</td>'
        f'<td data-label="time, n">{time}</td>'
    )


def _measure(measure: Measure, marks: str) -> str:
    parts = []
    if measure.ours:
        parts.append(f'<div class="ours">{_together(measure.ours)}{marks}</div>')
    if measure.paper:
        parts.append(f'<div class="paper">paper {_together(measure.paper)}</div>')
    if measure.difference:
        parts.append(f'<div class="difference">{measure.difference}</div>')
    return "".join(parts)


def _together(text: str) -> str:
    """Keep a mean and its deviation on one line."""
    return text.replace(" \N{PLUS-MINUS SIGN} ", "&nbsp;\N{PLUS-MINUS SIGN}&nbsp;")


def _legend(table: Table, words: Words) -> str:
    marks = "".join(
        f'<div id="{_id(table)}-{letter}"><dt>{letter}</dt><dd>{escape(text)}</dd></div>'
        for letter, text in words.legend.items()
    )
    note = f'<p class="notes">{CT_NOTE}</p>' if has_two_columns(words) else ""
    return (f'<dl class="legend">{marks}</dl>' if marks else "") + note


def _apart(table: Table, words: Words) -> str:
    """Write what is no headline: direct reconstruction, average, and the oracle."""
    if not any(e.ema or e.oracle for row in words.rows for e in row.entries.values()):
        return ""
    head = "".join(
        f'<th colspan="2" scope="colgroup">{escape(label)}'
        + (f"<br>direct: {words.direct[s]}" if words.direct[s] else "")
        + "</th>"
        for s, label in table.settings.items()
    )
    columns = '<th scope="col">average</th><th scope="col">oracle ◊</th>'
    rows = "".join(
        f'<tr><th scope="row">{escape(row.label)}</th>'
        + "".join(
            f'<td class="first" data-label="{escape(label)}: average">{row.entries[s].ema}</td>'
            f'<td data-label="oracle ◊" class="oracle">{row.entries[s].oracle}</td>'
            for s, label in table.settings.items()
        )
        + "</tr>"
        for row in words.rows
        if any(e.ema or e.oracle for e in row.entries.values())
    )
    return (
        "<h3>Beside the results</h3>"
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(table.title)}, beside '
        f'the results"><table class="apart"><thead><tr><th rowspan="2" scope="col">PSNR, dB</th>'
        f"{head}</tr><tr>{columns * len(table.settings)}</tr></thead><tbody>{rows}</tbody></table>"
        "</div>"
    )


# Curves and pictures -------------------------------------------------------------------------


def _charts(table: Table) -> str:
    found = charts(table)
    if not found:
        return ""
    figures = []
    for title, lines in found:
        described = f"PSNR over the weight updates, {title}: " + ", ".join(
            f"{label} ends at {line[-1][1]:.2f} dB" for label, line in lines.items()
        )
        key = "".join(
            f'<li><svg viewBox="0 0 36 10" aria-hidden="true"><polyline class="line '
            f'c{i % COLOURS}" stroke-dasharray="{dash(i)}" points="1,5 35,5"/></svg>'
            f"{escape(label)}</li>"
            for i, label in enumerate(lines)
        )
        figures.append(
            f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
            f'{draw(lines, described)}<ul class="key">{key}</ul></figure>'
        )
    return (
        '<h3>PSNR over the weight updates</h3><div class="charts">' + "".join(figures) + "</div>"
        '<p class="notes">Mean over images; the band reaches from the worst to the best image. '
        "The truth is used to draw these curves, not to choose a result.</p>"
    )


Shot = tuple[str, str, str, str, Path]  # setting, item, key, caption, picture


def _shots(table: Table) -> Iterable[Shot]:
    """List the pictures of a table: truth and input once an image, and each method's result."""
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
                run = _first_seed(cells, method)
                path = None if run is None else run.picture("result")
                if path is not None:
                    yield setting, item, method, label + _score(run, run.image), path


def _first_seed(cells: list[Cell], method: str) -> Run | None:
    mine = sorted((c for c in cells if c.method == method), key=lambda c: c.seed)
    return mine[0].run if mine else None


def _score(run: Run, image: str) -> str:
    psnr, ssim = run.figure(f"psnr_{image}"), run.figure(f"ssim_{image}")
    if psnr is None or ssim is None:
        return ""
    return f": {psnr:.2f} dB, SSIM {ssim:.3f}"


def _pictures(table: Table, side: int) -> str:
    names = {"truth": "truth", "input": "direct reconstruction", **table.methods}
    shots: dict[str, dict[str, list[str]]] = {}
    keys: dict[str, set[str]] = {}
    for setting, item, key, caption, path in _shots(table):
        picture = embed(path, side)
        alt = escape(f"{item}, {table.settings[setting]}, {caption}")
        shown = f'<img alt="{alt}" src="{picture}">'
        if picture is None:
            shown = '<span class="status">a damaged picture</span> '
        shots.setdefault(setting, {}).setdefault(item, []).append(
            f'<div class="shot" data-key="{escape(key)}">{shown}'
            f'<span class="caption">{escape(caption)}</span></div>'
        )
        keys.setdefault(setting, set()).add(key)
    if not shots:
        return ""
    groups = []
    for setting, items in shots.items():
        shown = [key for key in names if key in keys[setting]]
        methods = sorted((key for key in shown if key in table.methods), key=_not_aseqdip)
        first = [*methods, *shown][0]
        group = f"{_id(table)}-{list(table.settings).index(setting)}"
        radios = "".join(
            f'<label><input type="radio" name="{group}" value="{escape(key)}"'
            f"{' checked' if key == first else ''}> {escape(names[key])}</label>"
            for key in shown
        )
        figures = "".join(
            f"<figure>{''.join(parts)}<figcaption>{escape(item)}</figcaption></figure>"
            for item, parts in items.items()
        )
        groups.append(
            f'<div class="pictures"><fieldset><legend>{escape(table.settings[setting])}'
            f'</legend>{radios}</fieldset><div class="grid">{figures}</div></div>'
        )
    all_items = {cell.item for cell in table.cells if cell.run is not None}
    some = f" The first {ITEMS_SHOWN} images by name." if len(all_items) > ITEMS_SHOWN else ""
    return (
        "<h3>Pictures</h3>" + "".join(groups) + f'<p class="notes">Choose what is shown by touch, '
        f"or with the arrow keys. All pictures of an image are shown on one grey scale, at most "
        f"{side} pixels wide and high and as JPEG; the run folders have them in full.{some}</p>"
    )


def _not_aseqdip(method: str) -> bool:
    return not method.startswith("aseqdip")


def embed(path: Path, side: int) -> str | None:
    """Return a picture as a data URI, shrunk to a longer side; None if it is damaged."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
        return None
    if max(image.size) > side:
        scale = side / max(image.size)
        width, height = (max(round(n * scale), 1) for n in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def number(text: str) -> str:
    """Write a table's number to four digits, other text as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    return text if text.lstrip("-").isdigit() else f"{value:.4g}"


def _drawing(drawing: Drawing) -> str:
    picture = embed(drawing.picture, DRAWING_SIDE)
    title = escape(drawing.title)
    shown = f'<img alt="{title}" src="{picture}">'
    if picture is None:
        shown = '<span class="status">a damaged picture</span>'
    notes = "".join(f"<li>{escape(note)}</li>" for note in drawing.notes)
    tables = "".join(
        f'<details><summary>{escape(name)}.csv</summary><div class="wide" tabindex="0" '
        f'role="region" aria-label="{title}, {escape(name)}"><table><thead><tr>'
        + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in lines[0])
        + "</tr></thead><tbody>"
        + "".join(
            "<tr>" + "".join(f"<td>{escape(number(cell))}</td>" for cell in line) + "</tr>"
            for line in lines[1:]
        )
        + "</tbody></table></div></details>"
        for name, lines in drawing.tables.items()
        if lines
    )
    behind = f"<code>{escape(drawing.command)}</code>, commit {escape(drawing.commit[:10])}"
    return (
        f'<h3>{title}</h3><figure class="drawn">{shown}</figure><ul class="notes">{notes}</ul>'
        f'{tables}<p class="notes">{behind}</p>'
    )


# What is behind the figures ------------------------------------------------------------------


def _cells(table: Table) -> str:
    rows = []
    for cell in table.cells:
        command = shlex.join(["python", *cell.command]) if cell.command else ""
        if not command and cell.run is not None:
            command = str(cell.run.config.get("command", ""))
        psnr = cell.run.result("psnr") if cell.run else None
        took = duration(cell.run.metrics["seconds"]) if cell.run else ""
        why = f": {cell.why}" if cell.why else ""
        why += f" (log: {cell.log})" if cell.state == "failed" and cell.log else ""
        rows.append(
            f'<tr><th scope="row">{escape(cell.id)}</th><td>{escape(cell.state + why)}</td>'
            f"<td>{'' if psnr is None else f'{psnr:.2f}'}</td><td>{took}</td>"
            f"<td><code>{escape(command)}</code></td></tr>"
        )
    return (
        '<details><summary>All runs and their commands</summary><div class="wide" tabindex="0" '
        f'role="region" aria-label="Runs of {escape(table.title)}"><table class="cells"><thead><tr>'
        '<th scope="col">run</th><th scope="col">state</th><th scope="col">PSNR, dB</th>'
        '<th scope="col">time</th><th scope="col">command</th></tr></thead><tbody>'
        + "".join(rows)
        + "</tbody></table></div></details>"
    )


def environments(runs: list[Run]) -> list[tuple[str, str, str, int]]:
    """Group runs by commit, device and versions.

    Returns:
        Commit with a word if it was changed, device, versions, and the number of runs of each.
    """
    counts: dict[tuple[str, str, str], int] = {}
    for run in {run.folder: run for run in runs}.values():
        config = run.config
        commit = str(config.get("commit") or "unknown")
        if commit != "unknown":
            changed = " (dirty: files differed from it)" if config.get("dirty") else ""
            commit = commit[:10] + changed
        versions = ", ".join(f"{k} {v}" for k, v in config.get("versions", {}).items())
        key = (commit, run.metrics["device"], versions or "unknown")
        counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in sorted(counts.items())]


def _versions(runs: list[Run]) -> str:
    rows = "".join(
        f'<tr><td data-label="commit"><code>{escape(commit)}</code></td>'
        f'<td data-label="device">{escape(device)}</td>'
        f'<td data-label="versions">{escape(versions)}</td><td data-label="runs">{count}</td></tr>'
        for commit, device, versions, count in environments(runs)
    )
    return (
        '<section id="behind"><h2>Versions behind these figures</h2><div class="wide" tabindex="0" '
        'role="region" aria-label="Versions"><table class="versions"><thead><tr><th scope="col">'
        'commit</th><th scope="col">device</th><th scope="col">versions</th><th scope="col">runs'
        f"</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
