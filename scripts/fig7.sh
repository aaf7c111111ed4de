#!/usr/bin/env bash
# Figure 7: an autoencoder trained on clean images as a reconstructor, over lambda_a, for MRI at 4x
# as in the paper. The paper trains on 3000 fastMRI scans and tests on 8 others.
#   bash scripts/fig7.sh [--train FOLDER] [--data FOLDER] [--images 8] [--out results] [--quick]
set -euo pipefail
cd "$(dirname "$0")/.."
python -m scripts.fig7 --task mri --accel 4 "$@"
