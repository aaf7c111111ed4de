"""Write the report on finished runs, our figures beside the paper's.

From the plans (OUT/plan/*.json), the run folders (OUT/results/) and drawn figures (OUT/figures/) it
makes OUT/report/index.html, a page with everything inside that needs no network, and
OUT/report/report.md. Nothing is computed anew. Without a plan the runs found under OUT/results/ are
shown by task.

    python -m scripts.report OUT
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from scripts.reporting.data import Material
from scripts.reporting.page import write_markdown, write_page
from scripts.reporting.tables import write_words
from utils.errors import exit_status, require
from utils.files import write_atomically
from utils.flags import cli
from utils.paper import paper_figures


@dataclass
class Args:
    out: tyro.conf.Positional[Path]  # folder that holds plan/, results/ and figures/


def write_report(out: Path) -> None:
    """Write OUT/report/index.html and report.md.

    Raises:
        InputError: there is no folder `out`; what it may hold are plan/, results/ and figures/.
    """
    require(out.is_dir(), f"{out}: no such folder; give the --out of the runs")
    material = Material(out)
    figures = paper_figures()
    words = [write_words(table, figures) for table in material.tables]
    folder = out / "report"
    folder.mkdir(exist_ok=True)
    for name, write in (("index.html", write_page), ("report.md", write_markdown)):
        text = write(material, words).encode()
        write_atomically(folder / name, lambda file, text=text: file.write(text))
    for problem in material.problems:
        print(f"not readable: {problem}")
    done = sum(table.count("done") for table in material.tables)
    drawn = f" and {len(material.drawings)} figures" if material.drawings else ""
    print(f"{done} finished runs in {len(material.tables)} tables{drawn}: {folder / 'index.html'}")


def main() -> int:
    args = cli(Args, description=__doc__)
    return exit_status(lambda: write_report(args.out))


if __name__ == "__main__":
    sys.exit(main())
