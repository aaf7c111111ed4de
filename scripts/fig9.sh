#!/usr/bin/env bash
# Figure 9, PSNR over 10000 updates (--quick 1250): aSeqDIP with lambda 0.5, 1, 2; MRI.
#   bash scripts/fig9.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" fig9 "$@"
