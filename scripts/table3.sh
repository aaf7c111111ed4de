#!/usr/bin/env bash
# Table 3, MRI at 4x beside the paper's supervised networks; -- --varnet-weights FILE for another.
#   bash scripts/table3.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
exec python -m scripts.jobs "Table 3, against a supervised network" --name table3 --images 20 "$@" <<END
accel=4: python aseqdip_mri.py --accel 4 --method varnet,aseqdip --list data/fastmri.txt
END
