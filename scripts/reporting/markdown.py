"""report.md: the tables and what is behind them, for a terminal or a pull request."""

from reporting.data import Drawing, Material, Table
from reporting.page import (
    CT_NOTE,
    PAPER,
    READING,
    TITLE,
    environments,
    has_two_columns,
    number,
    unplanned_note,
)
from reporting.tables import Entry, Row, Words, made_on

HEAD = (
    "Method", "PSNR, dB", "paper", "difference", "SSIM", "paper", "difference", "n", "time",
    "paper's time", "",
)  # fmt: skip


def write_markdown(material: Material, words: list[Words]) -> str:
    """Write report.md.

    Args:
        material: what was found.
        words: its tables in words, in the same order.
    """
    parts = [f"# {TITLE}", f"{PAPER}."]
    if not material.tables and not material.drawings:
        parts.append("There is no finished run yet.")
    elif material.tables:
        parts.append("\n".join(f"- {name}: {text}" for name, text in READING.items()))
    if material.problems:
        lines = "\n".join(f"- {_cell(line)}" for line in material.problems)
        parts.append(f"## Not readable\n\n{lines}")
    if material.unplanned:
        parts.append(unplanned_note(material.unplanned))
    for table, its_words in zip(material.tables, words, strict=True):
        parts += _section(table, its_words)
    for drawing in material.drawings:
        parts += _drawing(drawing)
    if material.tables:
        runs = [run for table in material.tables for run in table.runs()]
        rows = [(*e[:3], str(e[3])) for e in environments(runs)]
        parts.append("## Versions behind these figures")
        parts.append(_table(("commit", "device", "versions", "runs"), rows))
    return "\n\n".join(parts) + "\n"


def _section(table: Table, words: Words) -> list[str]:
    parts = [f"## {_cell(table.title)}", f"{words.states}."]
    if words.items:
        parts.append(f"Images: {_cell(', '.join(words.items))}. On {made_on(words)}.")
    if table.note:
        parts.append(table.note)
    if table.picture is not None:
        parts.append(f"![{_cell(table.title)}](../{table.picture})")
    for setting, label in table.settings.items():
        parts.append(f"### {_cell(label)}")
        parts.append(_table(HEAD, [_row(row, row.entries[setting]) for row in words.rows]))
        beside = [
            (row.label, row.entries[setting].ema, row.entries[setting].oracle)
            for row in words.rows
            if row.entries[setting].ema or row.entries[setting].oracle
        ]
        if beside:
            direct = words.direct[setting]
            parts.append("Beside the results" + (f" (direct: {direct} dB):" if direct else ":"))
            parts.append(_table(("Method", "average, dB", "oracle ◊, dB"), beside))
    if words.legend:
        parts.append("\n".join(f"- ({x}) {_cell(text)}" for x, text in words.legend.items()))
    if has_two_columns(words):
        parts.append(CT_NOTE)
    return parts


def _drawing(drawing: Drawing) -> list[str]:
    folder, name = drawing.picture.parent.name, drawing.picture.name
    parts = [f"## {drawing.title}", f"![{drawing.title}](../figures/{folder}/{name})"]
    parts += ["\n".join(f"- {note}" for note in drawing.notes)] if drawing.notes else []
    for lines in drawing.tables.values():
        if lines:
            rows = [tuple(map(number, line)) for line in lines[1:]]
            parts.append(_table(tuple(lines[0]), rows))
    parts.append(f"`{drawing.command}`, commit {drawing.commit[:10]}")
    return parts


def _row(row: Row, entry: Entry) -> tuple[str, ...]:
    marks = sorted([*row.marks.split(), *entry.marks.split()], key=lambda x: (len(x), x))
    marks = marks if entry.n else []  # without a run there is nothing that differs
    seconds = entry.seconds + (f" on {entry.device}" if entry.device else "")
    label = row.label + ("†" if row.prior else "") + "".join(f" ({x})" for x in marks)
    return (
        label, entry.psnr.ours, entry.psnr.paper, entry.psnr.difference, entry.ssim.ours,
        entry.ssim.paper, entry.ssim.difference, entry.n, seconds, entry.minutes_paper,
        "; ".join(entry.status),
    )  # fmt: skip


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
