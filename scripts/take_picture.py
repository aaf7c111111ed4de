"""Put a run's picture and its figures into docs/images/, at most 300 KiB, in true colour.

    python -m scripts.take_picture RUN_FOLDER NAME [--file comparison.png] [--more FIGURES.json]

It writes docs/images/NAME.png and NAME.json: the command, the commit, the PSNR of each image, and
with the picture of a comparison that of each method, psnr_METHOD.
tests/test_docs.py compares captions with the latter.
"""

import csv
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image

from scripts.reporting.records import without_folders
from utils.errors import exit_status, require
from utils.files import write_atomically
from utils.flags import cli

LARGEST = 300 * 1024  # bytes
IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FIGURES = (
    "psnr_",
    "ssim_",
    "misfit_",
    "noise",
    "steps",
    "seconds",
    "task",
    "method",
    "item",
)  # kept of metrics.json


@dataclass
class Args:
    run: tyro.conf.Positional[Path]  # folder of a finished run
    name: tyro.conf.Positional[str]  # of the picture, without a suffix
    file: str = "comparison.png"  # of the run's folder
    more: Path | None = None  # JSON file of further figures, such as that of score_real


def take(args: Args) -> None:
    """Write the picture, made smaller until it is small enough, and the figures."""
    require(
        (args.run / "metrics.json").is_file(),
        f"{args.run}: expected the folder of a finished run; it has no metrics.json",
    )
    picture = Image.open(args.run / args.file).convert("RGB")
    scale = 1.0
    while len(data := encoded(picture, scale)) > LARGEST:
        scale *= 0.9
    metrics = json.loads((args.run / "metrics.json").read_text())
    config = json.loads((args.run / "config.json").read_text())
    record = {key: value for key, value in metrics.items() if key.startswith(FIGURES)}
    table = (args.run / args.file).with_name("table.csv")  # of a comparison
    if table.exists():
        with open(table, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["steps"] and row["psnr_final"]]
        record |= {
            f"psnr_{row['method']}": float(row["psnr_stopped"] or row["psnr_final"]) for row in rows
        }
    if args.more is not None:
        record |= json.loads(args.more.read_text())
    record |= {"command": without_folders(config["command"]), "commit": config["commit"]}
    text = (json.dumps(record, indent=1) + "\n").encode()
    write_atomically(IMAGES / f"{args.name}.png", lambda file: file.write(data))
    write_atomically(IMAGES / f"{args.name}.json", lambda file: file.write(text))
    print(f"docs/images/{args.name}.png: {len(data) / 1024:.0f} KiB")


def encoded(picture: Image.Image, scale: float) -> bytes:
    """Encode a picture as PNG at a share of its size."""
    size = (round(picture.width * scale), round(picture.height * scale))
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
    return file.getvalue()


def main() -> int:
    args = cli(Args, description=__doc__)
    return exit_status(lambda: take(args))


if __name__ == "__main__":
    sys.exit(main())
