"""The processes of scripts/gpu.py in miniature: same files and words, no torch.

It is called with the command that it stands for, and fails if that holds one of the words in
TOY_FAILS, which have semicolons between them; with TOY_STEPS its runs take so many
steps, of a hundredth of a second each.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STEPS = int(os.environ.get("TOY_STEPS", 20))
command = sys.argv[1:]


def flag(name):
    return command[command.index(name) + 1]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def times(**modes):
    return {mode: {"low": t, "median": t, "high": t} for mode, t in modes.items()}


def task_run(task):
    """Make run folders as utils/folder.py does."""
    out = Path(flag("--out"))
    methods = flag("--method") if "--method" in command else "aseqdip"
    if methods == "all":
        methods = "aseqdip,tv_dip,bm3d"
    run = flag("--run") if "--run" in command else "run"
    status = 0
    for method in methods.split(","):
        if method == "bm3d":
            print("bm3d failed: bm3d: the optional package bm3d is not installed; pip install bm3d")
            status = 2
            continue
        folder = out / task / method / "item" / run
        if (folder / "metrics.json").exists():
            print("this run is finished already (--fresh repeats it)")
            print(f"  pictures, reconstruction and metrics: {folder}")
            continue
        checkpoint = folder / "checkpoint.pt"
        first = int(checkpoint.read_text()) if checkpoint.exists() else 0
        if first:
            print(f"resumed after outer step {first} from {checkpoint}")
        write(folder / "config.json", "{}")
        stopped = []
        signal.signal(signal.SIGTERM, lambda number, frame, s=stopped: s.append(number))
        rows = ["step,loss,seconds", "0,1,0"]
        steps = 10**6 if "--run" in command else STEPS
        for step in range(first + 1, steps + 1):
            rows.append(f"{2 * step},1,{0.01 * step}")
            (folder / "log.csv").write_text("\n".join([*rows, ""]))
            if steps > STEPS or "TOY_STEPS" in os.environ:
                time.sleep(0.01)
            if stopped:
                checkpoint.write_text(str(step))
                sys.exit(130)
        (folder / "reconstruction.npy").write_bytes(b"the same")
        metrics = {"psnr_input": 20.0, "psnr_final": 30.0, "ssim_final": 0.9, "seconds": 11.0}
        write(folder / "metrics.json", json.dumps(metrics))
        print(f"  pictures, reconstruction and metrics: {folder}")
    if status:
        print("error: bm3d failed, as said above; the others are complete", file=sys.stderr)
    return status


script = command[1] if command[0] == "-m" else Path(command[0]).name
if any(words in " ".join(command) for words in os.environ.get("TOY_FAILS", "").split(";") if words):
    print("error: as it was told", file=sys.stderr)
    sys.exit(2)
if script == "sleep":  # with a child of its own
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
elif script == "scripts.bench":
    task = command[2]
    report = {
        "shape": [1, 8, 8], "width": 4, "peak memory, GiB": 1.0,
        "outer step, for each update": times(
            fp32=6e-3, bf16=2e-3, **{"public loop": 12e-3, "public loop, fp32": 9e-3}
        ),
        "update": times(fp32=5e-3, bf16=1.5e-3),
        "roofline": {
            mode: {"TFLOP/s": 100.0, "share of a matrix product": 0.5,
                   "share of the published peak": 0.3} for mode in ("fp32", "bf16")
        },
    }  # fmt: skip
    write(Path(flag("--out")) / f"{task}.json", json.dumps(report))
elif script == "scripts.graph_equals_eager":
    print("the sample")
    print(json.dumps({"graph equals eager": True, "eager equals eager": True}))
elif script == "studies.kill_and_resume":
    print("undisturbed: 3 s, sha256 abc")
    print("  1: interrupted at 0.2 s, resumed after outer step 7, sha256 abc")
elif script == "pytest":
    print("2 skipped in 1.0 s")
else:
    sys.exit(task_run(script.removeprefix("aseqdip_").removesuffix(".py")))
