#!/usr/bin/env bash
# Figure 10, PSNR over the updates with N, K of (1, 4000), (2, 2000), (4, 1000); four tasks.
#   bash scripts/fig10.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" fig10 "$@"
