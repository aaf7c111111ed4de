"""A task script in miniature, for tests of the launcher: same flags, files and words, no torch.

It keeps the contract of utils/runs.py: a locked run folder named by the settings, a checkpoint
after each step, metrics.json last. In the folder `starts` beside the results each start leaves a
line. A data file that says "corrupt" is refused; one that says "slow" takes its time.
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

STEPS = 4

parser = argparse.ArgumentParser()
for flag in ("--data", "--out"):
    parser.add_argument(flag, type=Path)
for flag in ("--method", "--seed", "--sigma", "--resize"):
    parser.add_argument(flag)
parser.add_argument("--quick", action="store_true")
args = parser.parse_args()
text = args.data.read_text()
if text == "corrupt":
    print(f"error: {args.data}: not a readable picture", file=sys.stderr)
    sys.exit(2)
if "," in args.method:
    comparison = args.out / "denoising" / "comparison" / args.data.stem
    comparison.mkdir(parents=True)
    (comparison / "comparison.png").write_text(args.method)
    print(f"  comparison, curves and table: {comparison}")
    sys.exit()
key = hashlib.sha256(f"{text} {args.method} {args.sigma} {args.seed}".encode()).hexdigest()
folder = args.out / "denoising" / args.method / args.data.stem / key[:10]
folder.mkdir(parents=True, exist_ok=True)
lock = os.open(folder, os.O_RDONLY)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f"error: {folder}: another process is at work on this run; wait for it", file=sys.stderr)
    sys.exit(2)
checkpoint = folder / "checkpoint.pt"
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
if (folder / "metrics.json").exists():
    print("this run is finished already (--fresh repeats it)")
else:
    starts = args.out.parent / "starts"
    starts.mkdir(exist_ok=True)
    with open(starts / f"{args.method}_{args.data.stem}_{args.sigma}", "a") as file:
        file.write(f"{step}\n")
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    while step < STEPS:
        time.sleep(0.4 if text == "slow" else 0.02)
        step += 1
        checkpoint.with_suffix(".partial").write_text(str(step))
        checkpoint.with_suffix(".partial").rename(checkpoint)
        if stopped:
            sys.exit(130)
    np.save(folder / "reconstruction.npy", np.full((8, 6), int(key[:4], 16)))
    rows = [f"{step},{20 + step}.0" for step in range(STEPS + 1)]
    (folder / "log.csv").write_text("\n".join(["step,psnr", *rows, ""]))
    (folder / "metrics.json").write_text(json.dumps({"psnr_final": 20.0 + STEPS}))
    checkpoint.unlink()
print(f"  pictures, reconstruction and figures: {folder}")
