#!/usr/bin/env bash
# The pictures of README.md and of the task pages, on a CPU in ten minutes (one core).
#   bash scripts/readme_pictures.sh [BRAIN.npy] [OUT]
# BRAIN.npy: data/cartesian_ksp.npy of https://github.com/mikgroup/sigpy-mri-tutorial
set -euo pipefail
brain=${1:+$(realpath "$1")}
out=$(realpath -m "${2:-results/pictures}")
cd "$(dirname "$0")/.."

# picture NAME TASK FLAGS: the first method of the flags is the one that is shown
picture() {
    python "aseqdip_$2.py" --out "$out" --run "$1" "${@:3}"
    python -m scripts.take_picture "$(dirname "$(ls "$out/$2"/*/*/"$1"/metrics.json)")" "$1"
}
picture mri_quick mri --accel 4 --quick
picture ct ct --views 18 --quick
picture denoising denoising --sigma 25 --quick
picture inpainting inpainting --quick
picture deblurring deblurring --sigma 2.55 --quick
picture superresolution superresolution --quick
if [ -n "$brain" ]; then
    python aseqdip_mri.py --data "$brain" --measured --preset best --width 16 --method tv,split_dip --out "$out/brain"
    newest() { ls -dt "$@" | head -1; }
    python -m scripts.take_picture "$(newest "$out"/brain/mri/split_dip/*/*)" mri_brain_measured \
        --file "$(newest "$out"/brain/mri/comparison/*/*/comparison.png)"
fi
