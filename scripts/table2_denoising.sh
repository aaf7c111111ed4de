#!/usr/bin/env bash
# Table 2, denoising at sigma 15 and 30, beside the paper's figures; -- --prior FILE for DPS.
#   bash scripts/table2_denoising.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
methods=dps,vanilla_dip,sgld_dip,tv_dip,rethinking_dip,es_dip,self_guided_dip,aseqdip,tv,nlm,wavelet,bm3d
exec python -m scripts.jobs "Table 2, denoising" --name table2_denoising --images 20 "$@" <<END
sigma=15: python aseqdip_denoising.py --sigma 15 --resize 512 --method $methods --list data/cbsd68.txt
sigma=30: python aseqdip_denoising.py --sigma 30 --resize 512 --method $methods --list data/cbsd68.txt
END
