"""What the scripts of the paper's figures share: parts that are kept, tables, the record of a run.

A figure's folder is `OUT/figures/<figure>/`: the figure as .png, table.csv, table.md, notes.md,
settings.json, and what each of its parts gave, below parts/.
"""

import csv
import functools
import io
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import tyro
from matplotlib.figure import Figure

from utils.errors import InputError, RunFailed
from utils.files import content_hash, reason, write_atomically
from utils.flags import cli
from utils.folder import git_state, versions
from utils.tables import markdown_table

ArgsT = TypeVar("ArgsT")


def parse_args(args_type: type[ArgsT], quick: dict[str, Any], description: str) -> ArgsT:
    """Read the command line into a script's Args; with --quick other defaults hold."""
    read = functools.partial(
        cli, args_type, description=description, config=(tyro.conf.FlagCreatePairsOff,)
    )
    args = read()
    if args.quick:
        args = read(default=args_type(**quick))
    return args


def kept(
    folder: Path, name: str, settings: dict[str, Any], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return what these settings gave before; where they were not run yet, run and keep it.

    Args:
        folder: where parts are kept.
        name: start of the file's name; the rest is a hash of the settings.
        settings: all that decides the result, as JSON can hold it.
        make: makes the result, as JSON can hold it.

    Raises:
        InputError: the file that was kept is damaged.
    """
    text = json.dumps(settings, sort_keys=True)
    path = folder / f"{name}_{content_hash(text)[:10]}.json"
    if path.exists():
        try:
            return json.loads(path.read_text())["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged ({reason(error)}); remove it") from error
    result = make()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"settings": json.loads(text), "result": result}))
    return result


def each(
    files: list[Path | None], measure: Callable[[Path | None], list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure each file; one that cannot be worked on is told and does not stop the others.

    Args:
        files: what is measured, None for the embedded sample.
        measure: returns the figures of a file.

    Returns:
        All figures, and the names of the files that failed.

    Raises:
        InputError, RunFailed: of the first file that failed, if all of them did.
    """
    found: list[dict[str, Any]] = []
    failed: dict[str, InputError | RunFailed] = {}
    for file in files:
        try:
            found += measure(file)
        except (InputError, RunFailed) as error:
            failed[str(file)] = error
            if len(files) > 1:
                print(f"failed: {error}", file=sys.stderr)
    if len(failed) == len(files):
        raise next(iter(failed.values()))
    return found, list(failed)


def circumstances(
    found: list[dict[str, Any]], data: Path | None, quick: bool, scans_of_paper: int
) -> str:
    """Write what makes a figure another experiment than the paper's.

    Args:
        found: metrics of its runs.
        data: where its files are, None for the embedded sample.
        quick: whether it was made with --quick.
        scans_of_paper: how many fastMRI scans the paper has.
    """
    items = sorted({figures["item"] for figures in found})
    what = "the embedded sample" if data is None else ", ".join(items)
    devices = "; ".join(sorted({figures["device"] for figures in found}))
    text = f"Of {len(items)} image(s), {what}, on {devices}; the paper's is of {scans_of_paper} "
    text += "fastMRI scans."
    if quick:
        text += " --quick: small images, a small network and few updates."
    return text


def markdown(rows: list[dict[str, Any]]) -> str:
    """Write rows that have the same keys as a Markdown table, numbers to four digits."""

    def shown(value: Any) -> Any:
        return f"{value:.4g}" if isinstance(value, float) else value

    return markdown_table(list(rows[0]), [map(shown, row.values()) for row in rows])


def save_table(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Write rows that have the same keys as NAME.csv and NAME.md, and print them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.csv", text.getvalue())
    write_text(folder / f"{name}.md", markdown(rows))
    print(markdown(rows))


def save_notes(folder: Path, notes: list[str]) -> None:
    """Write sentences, one a line, to notes.md, and print them."""
    text = "".join(f"- {note}\n" for note in notes)
    write_text(folder / "notes.md", text)
    print(text, end="")


def save_figure(folder: Path, name: str, figure: Figure) -> None:
    """Write a figure as NAME.png and say where it lies."""
    path = folder / f"{name}.png"
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    print(f"figure, table and parts: {folder}")


def save_settings(folder: Path, args: Any) -> None:
    """Write the flags, versions and commit behind a figure to settings.json."""
    flags = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(args).items()}
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "flags": flags,
        "versions": versions(),
        **git_state(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "settings.json", json.dumps(record, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees all of it or nothing."""
    write_atomically(path, lambda file: file.write(text.encode()))
