#!/usr/bin/env bash
# The pictures of README.md and of the task pages, on a CPU in ten minutes (one core).
#   bash scripts/readme_pictures.sh [BRAIN.npy] [OUT]
# BRAIN.npy: data/cartesian_ksp.npy of https://github.com/mikgroup/sigpy-mri-tutorial
set -euo pipefail
brain=${1:+$(realpath "$1")}
out=$(realpath -m "${2:-results/pictures}")
cd "$(dirname "$0")/.."

newest() { ls -dt "$@" | head -1; }
# picture NAME TASK METHODS FLAGS: the last of the methods beside the others
picture() {
    python "aseqdip_$2.py" --out "$out/$1" "${@:4}" --method "$3"
    python -m scripts.take_picture "$(newest "$out/$1/$2/${3##*,}"/*/*)" "$1" \
        --file "$(newest "$out/$1/$2"/comparison/*/*/comparison.png)"
}
picture mri_quick mri tv,split_dip --accel 4 --quick
picture ct ct tv,split_dip --views 18 --quick
picture denoising denoising nlm,split_dip --sigma 25 --quick
picture inpainting inpainting linear,vanilla_dip --quick
picture deblurring deblurring tv,split_dip --sigma 2.55 --quick
picture superresolution superresolution bicubic,tv,split_dip --quick
[ -z "$brain" ] || picture mri_brain_measured mri tv,split_dip --data "$brain" --measured --preset best --width 16
