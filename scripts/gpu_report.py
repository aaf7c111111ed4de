"""The targets of a measurement on a GPU, and its summary in Markdown: both from gpu.json alone."""

from collections.abc import Iterable, Sequence
from typing import Any

from utils.tables import markdown_table

MAX_LINES = 200
TIME_UP = "the time was up"  # ends the reason of each step that was cut off
K, N = 2000, 2  # the paper's setting
SECONDS = {"bf16": 12.0, "fp32": 40.0}  # at most, for MRI 320x320 with 15 coils
# At least so many times as quick as the public loop: as it is, with TF32, and in float32.
RATIOS = {"bf16": ("public loop", 5.0), "fp32": ("public loop, fp32", 2.0)}
PEAK_SHARE = 0.25  # at least, of the published dense peak in bf16
OUTER = "outer step, for each update"
TIMES = (
    "mode", "ms an update", "with input update", "TFLOP/s", "of a matrix product", "of the peak",
    "public loop / this",
)  # fmt: skip
REAL_RUN = "MRI 4x, sample: aseqdip"  # of the campaign: 320x320, 15 coils


def target(text: str, value: float | None, shown: str, reached: bool) -> dict[str, Any]:
    """Make a target's entry; a value of None says that it was not measured."""
    if value is None:
        return {"target": text, "value": None, "shown": "not measured", "reached": None}
    return {"target": text, "value": value, "shown": shown, "reached": reached}


def targets(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Say of each target what was measured and whether it was reached."""
    found = []
    mri = record["bench"].get("mri", {})
    for precision, limit in SECONDS.items():
        each = median(mri, precision)
        seconds = None if each is None else K * N * each
        text = f"MRI of the paper's setting in {precision}, 4000 updates: at most {limit:g} s"
        found.append(target(f"{text}, from the bench", seconds, f"{seconds or 0:.1f} s",
                            (seconds or 0) <= limit))  # fmt: skip
        campaign = record["campaign"]
        runs = campaign.get("runs", []) if campaign.get("precision") == precision else []
        real = next((r for r in runs if r["name"] == REAL_RUN and r["state"] == "done"), None)
        if real is not None:
            found.append(target(
                f"{text}, a run of the campaign, {campaign['at a time']} at a time",
                real["seconds"], f"{real['seconds']:.1f} s", real["seconds"] <= limit,
            ))  # fmt: skip
    for task, figures in timed(record).items():
        for precision, (name, least) in RATIOS.items():
            ours, theirs = median(figures, precision), median(figures, name)
            ratio = None if ours is None or theirs is None else theirs / ours
            found.append(target(
                f"{task}, {precision}: at least {least:g} times as quick as the {name}", ratio,
                f"{ratio or 0:.2f}", (ratio or 0) >= least,
            ))  # fmt: skip
        share = figures["roofline"].get("bf16", {}).get("share of the published peak")
        found.append(target(
            f"{task}, bf16: at least {PEAK_SHARE:.0%} of the published peak", share,
            f"{share or 0:.1%}", (share or 0) >= PEAK_SHARE,
        ))  # fmt: skip
    for task in ("mri", "ct"):
        same = record["smoke"].get(f"graph equals eager, {task}", {}).get("graph equals eager")
        found.append(target(
            f"{task}, fp32, --deterministic: graphs give the bits of their kernels", same,
            "equal" if same else "not equal", bool(same),
        ))  # fmt: skip
    resume = record["smoke"].get("resume", {})
    trials = resume.get("trials") or None
    all_equal = trials is not None and resume["equal"] == trials and resume["resumed"] > 0
    found.append(target(
        "a resumed run gives the bits of an undisturbed one with --deterministic", trials,
        f"{resume.get('equal')} of {trials} equal, {resume.get('resumed')} resumed", all_equal,
    ))  # fmt: skip
    return found


def median(figures: dict[str, Any], mode: str) -> float | None:
    """Return the seconds of an outer step for each of its updates."""
    return figures.get(OUTER, {}).get(mode, {}).get("median")


def timed(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tasks that bench.py has timed."""
    return {task: figures for task, figures in record["bench"].items() if OUTER in figures}


def failures(record: dict[str, Any]) -> list[str]:
    """Name the steps that failed; what the time cut off did not fail."""
    failed = [name for name, found in record["smoke"].items()
              if not found["ok"] and found.get("status") is not None]  # fmt: skip
    failed += [
        f"bench {name}" for name, found in record["bench"].items()
        if "failed" in found and not found["failed"].endswith(TIME_UP)
    ]  # fmt: skip
    failed += [
        run["name"] for run in record["campaign"].get("runs", []) if run["state"] == "failed"
    ]
    failed += [part for part, p in record["parts"].items() if p["state"].startswith("failed")]
    return failed


def summary(record: dict[str, Any]) -> str:
    """Write the page, at most MAX_LINES lines; where runs do not fit, the last are left out."""
    head = [
        "# Measured on a GPU" if not record["dry run"] else "# A dry run: no figure here counts",
        "",
        f"{record['device']}, driver {record['driver']}, CUDA {record['cuda']}, PyTorch "
        f"{record['torch']}, {record['cores']} cores; commit {record['commit']}"
        + (" with changes" if record["dirty"] else "")
        + ".",
        "",
        *table(
            ("part", "state", "seconds"),
            [(part, p["state"], f"{p['seconds']:.0f}") for part, p in record["parts"].items()],
        ),
    ]
    parts = [
        head, target_lines(record), smoke_lines(record), bench_lines(record), pack_lines(record)
    ]  # fmt: skip
    lines = [line for part in parts for line in part]
    lines += campaign_lines(record, MAX_LINES - len(lines))
    return "\n".join(lines[:MAX_LINES]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    return markdown_table(head, rows).splitlines()


def target_lines(record: dict[str, Any]) -> list[str]:
    """Write the targets."""
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows = [(t["target"], t["shown"], words[t["reached"]]) for t in record["targets"]]
    return ["", "## Targets", "", *table(("target", "measured", ""), rows)]


def smoke_lines(record: dict[str, Any]) -> list[str]:
    """Write what ran and what did not."""
    rows = []
    for name, found in record["smoke"].items():
        state = {True: "ok", None: found["why"], False: f"**{found['why']}**"}[found["ok"]]
        seconds = f"{found['seconds']:.0f}" if "seconds" in found else ""
        methods = f"{len(found['done'])} done" if "done" in found else ""
        methods += "".join(f"; {n}: {why}" for n, why in found.get("failed", {}).items())
        methods += "".join(f"; {n}: not installed" for n in found.get("not installed", []))
        if "graph equals eager" in found:
            same = {True: "equal", False: "not equal"}
            methods = (f"graph and eager {same[found['graph equals eager']]}, eager twice "
                       f"{same[found['eager equals eager']]}")  # fmt: skip
        graphs = found.get("no graph")
        rows.append((name, state, seconds, methods, f"none: {graphs}" if graphs else ""))
    head = ("process", "state", "seconds", "methods", "CUDA graphs")
    return ["", "## Smoke", "", *table(head, rows)]


def bench_lines(record: dict[str, Any]) -> list[str]:
    """Write the times of each task and mode, and of runs at the same time."""
    lines = ["", "## Bench"]
    for task, figures in timed(record).items():
        shape = " x ".join(map(str, figures["shape"]))
        lines += ["", f"{task}, {shape}, width {figures['width']}; peak memory "
                  f"{figures['peak memory, GiB']:.2f} GiB", ""]  # fmt: skip
        rows = []
        if figures.get("no public loop") is not None:
            lines += [f"**No public loop: {figures['no public loop']}**", ""]
        public = median(figures, "public loop")
        for mode, times in figures[OUTER].items():
            update = figures["update"].get(mode)
            roof = figures["roofline"].get(mode)
            share = roof and roof["share of the published peak"]
            rows.append((
                mode, f"{1e3 * update['median']:.3f}" if update else "",
                f"{1e3 * times['median']:.3f}", f"{roof['TFLOP/s']:.3g}" if roof else "",
                f"{roof['share of a matrix product']:.0%}" if roof else "",
                "" if share is None else f"{share:.1%}",
                "" if public is None else f"{public / times['median']:.2f}",
            ))  # fmt: skip
        lines += table(TIMES, rows)
    crowd = record["bench"].get("throughput", {})
    if "best" in crowd:
        rows = [(n, f"{rate:.1f}") for n, rate in crowd["updates per second"].items()]
        lines += [
            "",
            *table(("MRI runs at a time, bf16", "updates per second, all together"), rows),
        ]
        lines += ["", f"Best: {crowd['best']} at a time."]
        lines += [f"Not measured: {crowd['why']}."] if crowd["why"] else []
    for name, found in record["bench"].items():
        lines += ["", f"**{name} failed: {found['failed']}**"] if "failed" in found else []
    return lines


def pack_lines(record: dict[str, Any]) -> list[str]:
    """Write what the archive holds."""
    packed = record["pack"].get("runs", {})
    if "files" not in packed:
        return ["", f"runs.tar.gz: {packed['failed']}"] if "failed" in packed else []
    text = f"runs.tar.gz holds {packed['files']} files of {packed['bytes'] / 2**20:.1f} MiB"
    left_out = packed["left out"]
    more = f"; gpu.json names {len(left_out)} that did not fit" if left_out else ""
    return ["", f"{text}{more}."]


def campaign_lines(record: dict[str, Any], most: int) -> list[str]:
    """Write the runs, in at most so many lines."""
    campaign = record["campaign"]
    if "runs" not in campaign:
        return []
    states = [run["state"] for run in campaign["runs"]]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    lines = [
        "", "## Campaign", "",
        f"The paper's setting in {campaign['precision']}, {campaign['at a time']} runs at a time: "
        f"{counts}.", *(f"{len(campaign['notes'])} settings have no file in DATA."
                        for _ in campaign["notes"][:1]), "",
    ]  # fmt: skip
    begun = [run for run in campaign["runs"] if run["state"] != "waiting"]
    room = max(most - len(lines) - 2, 0)  # the head of a table has two lines
    shown = begun if len(begun) <= room else begun[: max(room - 2, 0)]
    rows = []
    for run in shown:
        psnr = [f"{run[f'psnr_{x}']:.2f}" if run.get(f"psnr_{x}") is not None else ""
                for x in ("input", "final", "ema", "oracle")]  # fmt: skip
        ssim = f"{run['ssim_final']:.3f}" if "ssim_final" in run else ""
        seconds = f"{run['seconds']:.1f}" if "seconds" in run else ""
        state = run["state"] if run["state"] == "done" else f"{run['state']}: {run['why']}"
        rows.append((run["name"], state, *psnr, ssim, seconds))
    head = ("run", "state", "PSNR input", "final", "average", "oracle", "SSIM", "seconds")
    lines += table(head, rows)
    if len(shown) < len(begun):
        lines += ["", f"gpu.json has {len(begun) - len(shown)} more."]
    return lines
