#!/usr/bin/env bash
# Table 2, MRI at 4x and 8x, beside the paper's figures; --reference FILE for Ref-Guided DIP.
#   bash scripts/table2_mri.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" table2_mri "$@"
