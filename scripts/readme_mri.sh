#!/usr/bin/env bash
# Every MRI figure of the README, on a CPU in about half an hour (two cores).
#   bash scripts/readme_mri.sh BRAIN.npy [OUT]
# BRAIN.npy: data/cartesian_ksp.npy of https://github.com/mikgroup/sigpy-mri-tutorial
set -euo pipefail
brain=$(realpath "$1")
out=$(realpath -m "${2:-results}")
cd "$(dirname "$0")/.."
mkdir -p "$out"

# The scan as it is: undersampled, no truth
python aseqdip_mri.py --data "$brain" --measured --width 16 --out "$out"

# A fully sampled stand-in made of it, 4x: aSeqDIP, also at 500 updates, and CG-SENSE by its weight, of the sample too
python -m scripts.make_brain_scan "$brain" "$out/brain_full.npy" --cache "$out/cache"
python aseqdip_mri.py --data "$out/brain_full.npy" --accel 4 --width 16 --out "$out"
short="--K 50 --N 10 --lr 5e-4 --ema-decay 0.8 --width 16"
python aseqdip_mri.py --data "$out/brain_full.npy" --accel 4 $short --out "$out"
python -m studies.tune --scan "$out/brain_full.npy" --cache "$out"

# The embedded sample, 4x
python aseqdip_mri.py --accel 4 --width 16 --out "$out"
python aseqdip_mri.py --accel 4 $short --out "$out"
