#!/usr/bin/env bash
# Table 4, four tasks on FFHQ; --bkse-weights GOPRO_wVAE.pth for the paper's blur.
#   bash scripts/table4.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" table4 "$@"
