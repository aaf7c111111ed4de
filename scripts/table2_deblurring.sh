#!/usr/bin/env bash
# Table 2, deblurring; --bkse-weights GOPRO_wVAE.pth for the paper's blur, else a stand-in as well,
# -- --prior FILE for DPS.
#   bash scripts/table2_deblurring.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
same="--resize 512 --method dps,sgld_dip,self_guided_dip,aseqdip --list data/cbsd68.txt"
camera="camera (camera blur, a stand-in for BKSE): python aseqdip_deblurring.py --blur camera $same"
if [[ " $* " == *" --bkse-weights"* ]]; then camera=; fi
exec python -m scripts.jobs "Table 2, deblurring" --name table2_deblurring --images 20 \
    --note "The paper does not give the size; 512x512 as for the other tasks." "$@" <<END
bkse (BKSE blur): python aseqdip_deblurring.py --blur bkse --bkse-weights GOPRO_wVAE.pth $same
$camera
END
