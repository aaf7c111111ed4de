"""What a script says at the end of a folder: how many items were done, which failed, their means."""

from utils.errors import Status
from utils.progress import duration
from utils.runs import Run
from utils.tables import markdown_table, mean_over_images, shown


def summarise(status: Status, runs: list[Run]) -> None:
    """Print what became of a folder's items; nothing of a single one.

    Args:
        status: whose `each` guarded the items.
        runs: of all items and methods, complete or not.
    """
    if status.blocks < 2:
        return
    done = status.blocks - len(status.failures)
    print(f"== {done} of {status.blocks} done, {len(status.failures)} failed")
    for name, why in status.failures:
        print(f"  failed: {name}: {why}")
    methods = dict.fromkeys(run.method.name for run in runs if run.metrics is not None)
    head = ("method", "images", "PSNR (dB)", "SSIM", "time each")
    lines = [
        _line(name, [r for r in runs if r.method.name == name and r.metrics]) for name in methods
    ]
    if lines:
        print(markdown_table(head, lines), end="")


def _line(name: str, runs: list[Run]) -> tuple[object, ...]:
    def mean(key: str, digits: int) -> str:
        found = mean_over_images((i, run.metrics.get(key)) for i, run in enumerate(runs))
        if found is None:
            return "-"
        spread = "" if found.std is None else f" \N{PLUS-MINUS SIGN} {found.std:.{digits}f}"
        fewer = "" if found.n == len(runs) else f" (n = {found.n})"
        return shown(found.mean, digits) + spread + fewer

    image = "stopped" if any("step_stopped" in run.metrics for run in runs) else "final"
    seconds = mean_over_images((i, run.metrics["seconds"]) for i, run in enumerate(runs))
    psnr, ssim = mean(f"psnr_{image}", 2), mean(f"ssim_{image}", 3)
    return name, len(runs), psnr, ssim, duration(seconds.mean)
