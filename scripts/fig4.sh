#!/usr/bin/env bash
# Figure 4, PSNR over the updates: aSeqDIP with lambda 1 and 0, Self-Guided, Vanilla; MRI and CT.
#   bash scripts/fig4.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" fig4 "$@"
