"""What a script says at the end of a folder: how many items were done, which failed, their means."""

from typing import Any

from utils.errors import Status
from utils.figures import percent
from utils.progress import duration
from utils.tables import markdown_table, mean_over_images, shown


def summarise(status: Status, figures: list[tuple[str, dict[str, Any]]]) -> None:
    """Print what became of a folder's items; nothing of a single one.

    Args:
        status: whose `each` guarded the items.
        figures: of each complete run its method and what metrics.json holds.
    """
    if status.blocks < 2:
        return
    done = status.blocks - len(status.failures)
    print(f"== {done} of {status.blocks} done, {len(status.failures)} failed")
    for name, why in status.failures:
        print(f"  failed: {name}: {why.removeprefix(f'{name}: ')}")
    head = ("method", "images", "PSNR (dB)", "SSIM", "misfit", "time each")
    methods = dict.fromkeys(name for name, _ in figures)
    lines = [_line(name, [m for method, m in figures if method == name]) for name in methods]
    if lines:
        print(markdown_table(head, lines), end="")


def _line(name: str, metrics: list[dict[str, Any]]) -> tuple[object, ...]:
    def mean(key: str, digits: int) -> str:
        found = mean_over_images((i, m.get(key)) for i, m in enumerate(metrics))
        if found is None:
            return "-"
        spread = "" if found.std is None else f" \N{PLUS-MINUS SIGN} {found.std:.{digits}f}"
        fewer = "" if found.n == len(metrics) else f" (n = {found.n})"
        return shown(found.mean, digits) + spread + fewer

    image = "stopped" if any("step_stopped" in m for m in metrics) else "final"
    seconds = mean_over_images((i, m["seconds"]) for i, m in enumerate(metrics))
    psnr, ssim = mean(f"psnr_{image}", 2), mean(f"ssim_{image}", 3)
    misfit = mean_over_images((i, m.get(f"misfit_{image}")) for i, m in enumerate(metrics))
    missed = "-" if misfit is None else percent(misfit.mean)
    return name, len(metrics), psnr, ssim, missed, duration(seconds.mean)
