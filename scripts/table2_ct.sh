#!/usr/bin/env bash
# Table 2, CT from 18 and 30 views, beside the paper's figures; --reference FILE for Ref-Guided DIP.
#   bash scripts/table2_ct.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
set -euo pipefail
python "$(dirname "$0")/launch.py" table2_ct "$@"
