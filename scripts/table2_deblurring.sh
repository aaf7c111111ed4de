#!/usr/bin/env bash
# Table 2, deblurring; --bkse-weights GOPRO_wVAE.pth for the paper's blur, else a stand-in.
#   bash scripts/table2_deblurring.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" table2_deblurring "$@"
