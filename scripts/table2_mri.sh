#!/usr/bin/env bash
# Table 2, MRI at 4x and 8x, beside the paper's figures; --reference FILE for Ref-Guided DIP,
# -- --prior FILE for Score-MRI.
#   bash scripts/table2_mri.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
methods=score_mri,ref_guided_dip,tv_dip,es_dip,vanilla_dip,self_guided_dip,aseqdip,zero_filled,cg_sense,l1_wavelet,tv
exec python -m scripts.jobs "Table 2, MRI" --name table2_mri --images 20 "$@" <<END
accel=4: python aseqdip_mri.py --accel 4 --method $methods --list data/fastmri.txt
accel=8: python aseqdip_mri.py --accel 8 --method $methods --list data/fastmri.txt
END
