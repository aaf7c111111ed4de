#!/usr/bin/env bash
# Table 2, denoising at sigma 15 and 30, beside the paper's figures.
#   bash scripts/table2_denoising.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" table2_denoising "$@"
