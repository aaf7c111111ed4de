#!/usr/bin/env bash
# The runs of docs/results.md, of the test half of data/split.txt, on a CPU in some hours (one core).
#   bash scripts/best.sh CBSD68 CT.dcm PHANTOM.npy BRAIN.npy [OUT]
#   python -m scripts.results OUT
# CBSD68: a folder with 0000.png to 0009.png; CT.dcm: abdomen_512.dcm; PHANTOM.npy, BRAIN.npy:
# phantom_4coil.npy and brain_gre_16coil.npy. BM3D takes part where its package is installed.
# A finished run is not done again. OUT has a folder for each variant.
set -uo pipefail
cbsd=$(realpath "$1")
abdomen=$(realpath "$2")
phantom=$(realpath "$3")
brain=$(realpath "$4")
out=$(realpath -m "${5:-results/best}")
cd "$(dirname "$0")/.."
head=$(python -c 'from pydicom.data import get_testdata_file as f; print(f("693_J2KI.dcm", download=False))')

# run VARIANT TASK FLAGS
run() { python "aseqdip_$2.py" --width 16 --precision bf16 --out "$out/$1" "${@:3}"; }
best() { run best "$1" --preset best "${@:2}"; }
# The settings that studies/tune.py chose for other networks: tuned TASK METHOD UPDATES SETTINGS FLAGS
tuned() {
    local set=()
    for setting in $4; do set+=(--set "$setting"); done
    run tuned "$1" --preset best --result last --method "$2" --N 10 --K $(($3 / 10)) "${set[@]}" "${@:5}"
}

# Best, and the classical methods
pictures=(--data "$cbsd" --crop 128 --images 10)
best denoising "${pictures[@]}" --sigma 25 --method tv,nlm,wavelet,bm3d,split_dip
best inpainting "${pictures[@]}" --method biharmonic,linear,tv,split_dip
best inpainting "${pictures[@]}" --mask random --method linear,tv,split_dip
best deblurring "${pictures[@]}" --images 4 --blur camera
slices=("--data $abdomen --resize 128 --views 18" "--data $abdomen --resize 128 --views 30"
    "--data $head --resize 128 --views 18" "--data $head --resize 128 --views 30")
scans=("--data $brain --accel 3 --center-fraction 0.17" "--data $phantom --accel 4" "--accel 4")
for slice in "${slices[@]}"; do
    best ct $slice --width 32 --method fbp,sart,tv,aseqdip,split_dip
done
for scan in "${scans[@]}"; do
    best mri $scan --method zero_filled,cg_sense,l1_wavelet,tv,aseqdip,split_dip
done
for seed in 1 2; do
    for scan in "${scans[@]}"; do best mri $scan --seed $seed; done
done
