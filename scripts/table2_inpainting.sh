#!/usr/bin/env bash
# Table 2, inpainting of a box of a share of 0.1 and 0.25, beside the paper's figures;
# -- --prior FILE for DPS.
#   bash scripts/table2_inpainting.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
methods=dps,vanilla_dip,sgld_dip,tv_dip,es_dip,self_guided_dip,aseqdip,biharmonic,tv
exec python -m scripts.jobs "Table 2, inpainting" --name table2_inpainting --images 20 "$@" <<END
hiar=0.1: python aseqdip_inpainting.py --hiar 0.1 --resize 512 --method $methods --list data/cbsd68.txt
hiar=0.25: python aseqdip_inpainting.py --hiar 0.25 --resize 512 --method $methods --list data/cbsd68.txt
END
