#!/usr/bin/env bash
# The figures of docs/ct.md and docs/images.md at the paper's setting, on a CPU in about an hour.
#   bash scripts/docs_tasks.sh CBSD68.png FFHQ.png CT.dcm [OUT]
# CBSD68.png: 0010.png of https://github.com/clausmichele/CBSD68-dataset (original_png)
# FFHQ.png: 00013.png of https://github.com/NVlabs/ffhq-dataset at 256x256
# CT.dcm: a slice of NIH Pancreas-CT, https://doi.org/10.7937/K9/TCIA.2016.tNB1kqBU
set -euo pipefail
cbsd=$(realpath "$1")
ffhq=$(realpath "$2")
ct=$(realpath "$3")
out=$(realpath -m "${4:-results}")
cd "$(dirname "$0")/.."
mkdir -p "$out"

# A network of a quarter of the width, real data at 128x128
small=(--resize 128 --width 16 --out "$out")
for views in 18 30; do
    python aseqdip_ct.py --data "$ct" --views $views "${small[@]}"
    python aseqdip_ct.py --data "$ct" --views $views --z0 adjoint "${small[@]}"
done
python aseqdip_denoising.py --data "$cbsd" "${small[@]}"
python aseqdip_inpainting.py --data "$cbsd" "${small[@]}"
python aseqdip_inpainting.py --data "$cbsd" --hole-start 0.4 "${small[@]}"
python aseqdip_inpainting.py --data "$ffhq" --mask random "${small[@]}"
python aseqdip_inpainting.py --data "$ffhq" --mask random --lambda-ae 0 "${small[@]}"
python aseqdip_inpainting.py --data "$ffhq" --mask random --lambda-ae 0.01 --lr 1e-3 --K 1000 "${small[@]}"
python aseqdip_deblurring.py --data "$cbsd" "${small[@]}"
python aseqdip_deblurring.py --data "$cbsd" --lambda-ae 5 --K 5000 "${small[@]}"
python aseqdip_deblurring.py --data "$cbsd" --blur trajectory "${small[@]}"
