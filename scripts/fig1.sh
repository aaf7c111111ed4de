#!/usr/bin/env bash
# Figure 1: the best PSNR (oracle) of Vanilla DIP against its fixed input's distance from the
# truth, MRI at 4x. The paper averages 8 fastMRI scans; without --data the embedded sample.
#   bash scripts/fig1.sh [--data FOLDER] [--images 8] [--out results] [--quick]
set -euo pipefail
cd "$(dirname "$0")/.."
python -m scripts.fig1 --accel 4 "$@"
