"""Write the report on finished runs, our figures beside the paper's.

From the plans (OUT/plan/*.json), the run folders (OUT/results/) and drawn figures (OUT/figures/) it
makes OUT/report/index.html, a page with everything inside that needs no network, and
OUT/report/report.md. Nothing is computed anew. Without a plan the runs found under OUT/results/ are
shown by task.

    python scripts/report.py OUT
"""

import argparse
import sys
from pathlib import Path

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reporting.data import read_material
from reporting.markdown import write_markdown
from reporting.page import write_page
from reporting.tables import write_words

from utils.errors import exit_status, require
from utils.files import write_atomically
from utils.paper import paper_figures


def write_report(out: Path) -> None:
    """Write OUT/report/index.html and report.md.

    Args:
        out: folder that holds plan/, results/ and figures/, or some of them.

    Raises:
        InputError: there is no such folder.
    """
    require(out.is_dir(), f"{out}: no such folder; give the --out of the runs")
    material = read_material(out)
    figures = paper_figures()
    words = [write_words(table, figures) for table in material.tables]
    folder = out / "report"
    folder.mkdir(exist_ok=True)
    page, text = write_page(material, words), write_markdown(material, words)
    write_atomically(folder / "index.html", lambda file: file.write(page.encode()))
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    for problem in material.problems:
        print(f"not readable: {problem}")
    done = sum(table.count("done") for table in material.tables)
    drawn = f" and {len(material.drawings)} figures" if material.drawings else ""
    print(f"{done} finished runs in {len(material.tables)} tables{drawn}: {folder / 'index.html'}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder that holds plan/, results/ and figures/")
    options = parser.parse_args()
    return exit_status(lambda: write_report(options.out))


if __name__ == "__main__":
    sys.exit(main())
