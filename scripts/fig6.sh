#!/usr/bin/env bash
# Figure 6: a sinusoid denoised from three inputs, beside the closed form of Theorem A.1, and how
# the outcome depends on what the paper leaves open. Five seeds: about two hours on one CPU core.
#   bash scripts/fig6.sh [--quick] [--seeds 5] [--out results]
set -euo pipefail
cd "$(dirname "$0")/.."
python -m scripts.fig6 --sensitivity "$@"
