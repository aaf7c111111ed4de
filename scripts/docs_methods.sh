#!/usr/bin/env bash
# The figures of docs/methods.md, one picture a task, on a CPU in about four hours (one core).
#   bash scripts/docs_methods.sh CBSD68.png CT.dcm CT_REFERENCE BRAIN.npy [OUT]
# CBSD68.png, CT.dcm: as in docs_tasks.sh; BRAIN.npy: as in readme_pictures.sh
# CT_REFERENCE: a CT slice of another patient, or a folder of them
set -euo pipefail
cbsd=$(realpath "$1")
ct=$(realpath "$2")
reference=$(realpath "$3")
brain=$(realpath "$4")
out=$(realpath -m "${5:-results}")
cd "$(dirname "$0")/.."
mkdir -p "$out"

# The paper's setting with a network of a quarter of the width; real data at 128x128
small=(--resize 128 --width 16 --out "$out" --method all)
python aseqdip_denoising.py --data "$cbsd" "${small[@]}"
python aseqdip_inpainting.py --data "$cbsd" "${small[@]}"
python aseqdip_deblurring.py --data "$cbsd" "${small[@]}"
python aseqdip_ct.py --data "$ct" --reference "$reference" "${small[@]}"
python -m scripts.make_brain_scan "$brain" "$out/brain_full.npy" --cache "$out/cache"
python aseqdip_mri.py --data "$out/brain_full.npy" --width 16 --K 1000 --out "$out" --method all

# TV-DIP with a weight that was chosen on another picture
python aseqdip_denoising.py --data "$cbsd" --resize 128 --width 16 --out "$out" \
    --method tv_dip --set lambda_tv=0.1
