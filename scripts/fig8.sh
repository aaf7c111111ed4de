#!/usr/bin/env bash
# Figure 8, PSNR over the updates: DIP methods in denoising.
#   bash scripts/fig8.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" fig8 "$@"
