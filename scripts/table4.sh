#!/usr/bin/env bash
# Table 4, four tasks on FFHQ; --bkse-weights GOPRO_wVAE.pth for the paper's blur, else a stand-in,
# -- --prior FILE for DPS and DDNM. DDNM is for linear problems, which these blurs are not.
#   bash scripts/table4.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
linear="--method dps,ddnm,aseqdip --list data/ffhq.txt"
blurs="--method dps,aseqdip --list data/ffhq.txt"
camera="ffhq_camera (camera blur, a stand-in for BKSE): python aseqdip_deblurring.py --blur camera $blurs"
if [[ " $* " == *" --bkse-weights"* ]]; then camera=; fi
exec python -m scripts.jobs "Table 4, FFHQ" --name table4 --images 20 \
    --note "The paper gives neither the size nor the noise: the files' own size, sigma 15." "$@" <<END
ffhq (denoising, sigma 15): python aseqdip_denoising.py --sigma 15 $linear
ffhq_random_97pct_missing (inpainting, 97 % missing at random): python aseqdip_inpainting.py --mask random --missing 0.97 $linear
ffhq_bkse (BKSE blur): python aseqdip_deblurring.py --blur bkse --bkse-weights GOPRO_wVAE.pth $blurs
$camera
ffhq_box_hiar=0.25 (inpainting, box, HIAR 0.25): python aseqdip_inpainting.py --hiar 0.25 $linear
END
