"""The part of scripts/gpu.py that makes full-size runs of the paper's setting until the time is up.

SETTINGS and METHODS are its list: all settings with the first method, then all with the second,
and so on. The scripts' defaults are the paper's setting: K 2000, N 2, full width.
"""

import json
import re
import shlex
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from scripts.gpu_jobs import Ended, Work
from scripts.gpu_smoke import methods_of
from scripts.jobs import read_flags
from utils.files import reason, write_atomically
from utils.precision import Precision


@dataclass(frozen=True)
class Setting:
    """One problem.

    Args:
        name: in the report.
        task, flags: the script and what it is told.
        file: below DATA; None for the script's embedded sample.
    """

    name: str
    task: str
    flags: str
    file: str | None = None


# In order of importance. Settings whose file DATA does not have are left out.
SETTINGS = (
    Setting("MRI 4x, T1 brain", "mri", "--accel 4", "mri/brain_t1_8coil.npy"),
    # At 4x its 96 columns leave too few calibration lines for sound maps.
    Setting("MRI 3x, GRE brain", "mri", "--accel 3 --center-fraction 0.17", "mri/brain_gre_16coil.npy"),
    Setting("MRI 4x, phantom", "mri", "--accel 4", "mri/phantom_4coil.npy"),
    Setting("MRI 4x, sample", "mri", "--accel 4"),
    Setting("MRI 8x, T1 brain", "mri", "--accel 8", "mri/brain_t1_8coil.npy"),
    Setting("MRI 8x, phantom", "mri", "--accel 8", "mri/phantom_4coil.npy"),
    Setting("MRI 8x, sample", "mri", "--accel 8"),
    Setting("CT 18 views, abdomen", "ct", "--views 18", "ct/abdomen_512.dcm"),
    Setting("CT 18 views, sample", "ct", "--views 18"),
    Setting("CT 30 views, abdomen", "ct", "--views 30", "ct/abdomen_512.dcm"),
    Setting("CT 30 views, sample", "ct", "--views 30"),
    Setting("denoising 15, 0010", "denoising", "--sigma 15 --resize 512", "cbsd68/0010.png"),
    Setting("denoising 30, 0010", "denoising", "--sigma 30 --resize 512", "cbsd68/0010.png"),
    Setting("denoising 15, sample", "denoising", "--sigma 15 --resize 512"),
    Setting("denoising 30, sample", "denoising", "--sigma 30 --resize 512"),
    Setting("inpainting 0.1, 0010", "inpainting", "--hiar 0.1 --resize 512", "cbsd68/0010.png"),
    Setting("inpainting 0.25, 0010", "inpainting", "--hiar 0.25 --resize 512", "cbsd68/0010.png"),
    Setting("inpainting 0.1, sample", "inpainting", "--hiar 0.1 --resize 512"),
    Setting("inpainting 0.25, sample", "inpainting", "--hiar 0.25 --resize 512"),
    Setting("deblurring, 0010", "deblurring", "--resize 512", "cbsd68/0010.png"),
    Setting("deblurring, sample", "deblurring", "--resize 512"),
    Setting("denoising 15, 0000", "denoising", "--sigma 15 --resize 512", "cbsd68/0000.png"),
    Setting("denoising 30, 0000", "denoising", "--sigma 30 --resize 512", "cbsd68/0000.png"),
    Setting("denoising 15, 0020", "denoising", "--sigma 15 --resize 512", "cbsd68/0020.png"),
    Setting("denoising 30, 0020", "denoising", "--sigma 30 --resize 512", "cbsd68/0020.png"),
    Setting("denoising 15, 0030", "denoising", "--sigma 15 --resize 512", "cbsd68/0030.png"),
    Setting("denoising 30, 0030", "denoising", "--sigma 30 --resize 512", "cbsd68/0030.png"),
    Setting("inpainting 0.1, 0000", "inpainting", "--hiar 0.1 --resize 512", "cbsd68/0000.png"),
    Setting("inpainting 0.25, 0000", "inpainting", "--hiar 0.25 --resize 512", "cbsd68/0000.png"),
    Setting("deblurring, 0000", "deblurring", "--resize 512", "cbsd68/0000.png"),
)  # fmt: skip
METHODS = ("aseqdip", "vanilla_dip", "self_guided_dip", "tv_dip", "es_dip")
FIGURES = (
    "psnr_input", "psnr_final", "ssim_final", "psnr_ema", "ssim_ema", "psnr_oracle", "step_oracle",
    "steps", "seconds", "peak_memory_gib",
)  # fmt: skip
# What is packed of finished runs, the most needed first.
PACKED = (
    "metrics.json", "config.json", "log.csv", "reconstruction.png", "curve.png", "comparison.png",
)  # fmt: skip
# What a task script prints of its run folder at the end.
FOLDER = re.compile(r"^  pictures, reconstruction and metrics: (.+)$", re.MULTILINE)
PACKED_BYTES = 15 * 2**20


def campaign(
    work: Work, deadline: float, last_start: float, precision: Precision, at_a_time: int | None
) -> None:
    """Make the runs that are not finished yet, in their order, until the time is up.

    Args:
        deadline, last_start: when runs are ended, and after which none is begun.
        precision: of the networks.
        at_a_time: runs at the same time; None for what the bench found best, or else one.
    """
    record = work.record["campaign"]
    at_a_time = at_a_time or work.record["bench"].get("throughput", {}).get("best", 1)
    commands, notes = campaign_commands(work, precision)
    before = {run["name"]: run for run in record.get("runs", [])}
    runs = {}
    for name, command in commands.items():
        known = before.get(name, {})
        same = known.get("command") == without_out(command) and known["state"] == "done"
        if same and (work.out / known["run"] / "metrics.json").exists():
            runs[name] = known
        else:
            runs[name] = {"name": name, "command": without_out(command), "state": "waiting"}
    record |= {"precision": precision, "at a time": at_a_time, "notes": notes}
    record["runs"] = list(runs.values())
    work.save()
    for note in notes:
        work.say(note)
    waiting = {name: commands[name] for name, run in runs.items() if run["state"] != "done"}
    finished = len(runs) - len(waiting)
    work.say(f"campaign: {finished} of {len(runs)} runs are finished; {at_a_time} at a time")

    def report(name: str, ended: Ended) -> None:
        found = read_run(ended, work.out)
        runs[name].update(found)
        work.save()
        psnr, why = found.get("psnr_final"), found["why"]
        what = f", {psnr:.2f} dB" if psnr is not None else f", {why}" if why else ""
        work.say(f"{found['state']}: {name}{what}, {ended.seconds:.0f} s")

    work.processes.run(waiting, at_a_time, deadline, report, last_start)


def campaign_commands(
    work: Work, precision: Precision
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the commands by name, in their order, and notes on the settings that are left out."""
    notes, settings = [], []
    for setting in SETTINGS:
        if setting.file is None or (work.data / setting.file).is_file():
            settings.append(setting)
        else:
            notes.append(
                f"left out: {setting.name}, no {setting.file} in DATA; the embedded sample runs"
            )
    methods = METHODS
    if not work.scale.whole_campaign:
        settings = list({s.task: s for s in reversed(settings)}.values())[::-1]
        methods = METHODS[:1]
    commands = {}
    for method in methods:
        for setting in settings:
            if method not in methods_of(setting.task):
                continue
            flags = read_flags(shlex.split(setting.flags))
            flags |= read_flags(
                [*work.scale.flags, *work.scale.campaign_flags.get(setting.task, ())]
            )
            file = () if setting.file is None else ("--data", str(work.data / setting.file))
            commands[f"{setting.name}: {method}"] = (
                f"aseqdip_{setting.task}.py", *file,
                *(token for name, values in flags.items() for token in (name, *values)),
                "--precision", precision, "--method", method, "--device", work.scale.device,
                "--out", str(work.out / "results"),
            )  # fmt: skip
    return commands, notes


def without_out(command: tuple[str, ...]) -> str:
    """Write a command without the folder of its results, which a later call may have elsewhere."""
    return shlex.join(command[:-2])


def read_run(ended: Ended, out: Path) -> dict[str, Any]:
    """Read what became of a run, and its figures."""
    folders = FOLDER.findall(ended.log)
    if ended.status != 0 or not folders:
        state = "interrupted" if ended.status is None else "failed"
        return {"state": state, "why": ended.why or "it printed no folder"}
    folder = Path(folders[-1])
    metrics = json.loads((folder / "metrics.json").read_text())
    figures = {name: metrics[name] for name in FIGURES if name in metrics}
    return {"state": "done", "why": None, "run": str(folder.relative_to(out)), **figures}


def pack(out: Path) -> dict[str, Any]:
    """Write OUT/runs.tar.gz: logs, small files of finished runs, unfinished runs where they fit.

    Returns:
        How much it holds, and what was left out, relative to OUT.
    """
    folders = sorted(path.parent for path in (out / "results").glob("*/*/*/*/config.json"))
    finished = [folder for folder in folders if (folder / "metrics.json").exists()]
    begun = [f for f in folders if f not in finished and (f / "checkpoint.pt").exists()]
    groups = [[log] for log in sorted((out / "logs").glob("*.log"))]
    groups += [[folder / name] for name in PACKED for folder in finished]
    groups += [[f / name for name in ("config.json", "log.csv", "checkpoint.pt")] for f in begun]
    taken: list[Path] = []
    left_out: list[Path] = []
    size = 0
    for group in groups:
        files = [path for path in group if path.exists()]
        more = sum(path.stat().st_size for path in files)
        if size + more <= PACKED_BYTES:
            taken += files
            size += more
        else:
            left_out += files

    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for path in taken:
                archive.add(path, path.relative_to(out))

    write_atomically(out / "runs.tar.gz", write)
    return {
        "files": len(taken),
        "bytes": size,
        "left out": [str(path.relative_to(out)) for path in left_out],
    }


def unpack(out: Path) -> str | None:
    """Bring OUT/results back from OUT/runs.tar.gz where only the latter is there; say so."""
    path = out / "runs.tar.gz"
    if (out / "results").exists() or not path.exists():
        return None
    try:
        with tarfile.open(path) as archive:
            archive.extractall(out, filter="data")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        return f"{path.name} could not be unpacked ({reason(error)}); its runs are made anew"
    return f"{path.name} was unpacked"
