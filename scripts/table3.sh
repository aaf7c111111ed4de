#!/usr/bin/env bash
# Table 3, MRI at 4x beside the paper's supervised network.
#   bash scripts/table3.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" table3 "$@"
