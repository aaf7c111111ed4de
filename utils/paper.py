"""The figures that the paper prints, to stand beside ours."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "scripts" / "paper_tables.csv"
METHODS = {  # as the paper's tables print them
    "score_mri": "Score-MRI", "mcg": "MCG", "dps": "DPS", "ddnm": "DDNM", "fbp": "FBP",
    "e2e_varnet_8000": "E2E VarNet, 8000 scans", "e2e_varnet_3000": "E2E VarNet, 3000 scans",
    "ref_guided_dip": "Ref-Guided DIP", "vanilla_dip": "Vanilla DIP", "sgld_dip": "SGLD-DIP",
    "tv_dip": "TV-DIP", "es_dip": "ES-DIP", "rethinking_dip": "Rethinking DIP",
    "self_guided_dip": "Self-Guided DIP", "aseqdip": "aSeqDIP",
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One row of scripts/paper_tables.csv, which names its source; None where nothing is printed.

    Attributes:
        table: number of the paper's table.
        task: mri, ct, denoising, inpainting or deblurring.
        setting: such as sigma=15; CT's are `column 1` and `column 2`.
        method: its name in --method, where this repository has it.
        data_independent: False for a method that uses prior data or a pre-trained network.
        psnr, psnr_std: dB, mean and standard deviation over 20 images.
        ssim, ssim_std: likewise.
        minutes, minutes_std: on an RTX 5000, averaged over a task's settings.
    """

    table: int
    task: str
    setting: str
    method: str
    data_independent: bool
    psnr: float
    psnr_std: float | None
    ssim: float | None
    ssim_std: float | None
    minutes: float | None
    minutes_std: float | None


def paper_figures() -> list[Figure]:
    """Read all figures of the paper's Tables 2, 3 and 4, in its order."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    with open(TABLES, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [
            Figure(
                table=int(row["table"]),
                task=row["task"],
                setting=row["setting"],
                method=row["method"],
                data_independent={"yes": True, "no": False}[row["data_independent"]],
                psnr=float(row["psnr_db_mean"]),
                psnr_std=number(row["psnr_db_std"]),
                ssim=number(row["ssim_mean"]),
                ssim_std=number(row["ssim_std"]),
                minutes=number(row["minutes_mean"]),
                minutes_std=number(row["minutes_std"]),
            )
            for row in rows
        ]


def figures_beside(
    figures: list[Figure], table: int | None, setting: str, method: str
) -> list[Figure]:
    """Choose the figures that belong beside a row of ours.

    Args:
        figures: those of paper_figures.
        table: number of the table that is rebuilt, None for none.
        setting: ours, named as in the paper's file; for CT views=18 or views=30.
        method: its name in --method.

    Returns:
        None, one, or both of CT's columns: the paper calls them 18 and 30 views, but every method
        is worse in the second, which more views cannot cause.
    """
    found = [f for f in figures if f.table == table and f.method == method]
    if setting.startswith(("views=", "column ")):
        return [f for f in found if f.task == "ct"]
    return [f for f in found if f.setting == setting]


def methods_beside(figures: list[Figure], table: int | None, settings: Iterable[str]) -> list[str]:
    """List the methods that the paper's table has at any of our settings, in the paper's order."""
    settings = list(settings)
    return list(
        dict.fromkeys(
            f.method
            for f in figures
            if any(f in figures_beside(figures, table, s, f.method) for s in settings)
        )
    )


def why_absent(method: str) -> str:
    """Say why a plan of ours does not list a method of the paper."""
    if method == "aseqdip" or (ROOT / "baselines" / f"{method}.py").is_file():
        return "not asked for"
    if method.startswith("e2e_varnet_"):
        return f"needs a network trained on {method.rpartition('_')[2]} fastMRI scans"
    return "this repository does not have it"
