#!/usr/bin/env bash
# Table 2, inpainting of a box of a share of 0.1 and 0.25, beside the paper's figures.
#   bash scripts/table2_inpainting.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" table2_inpainting "$@"
