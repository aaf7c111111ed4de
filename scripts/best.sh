#!/usr/bin/env bash
# The tables of docs/best.md, of the test half of data/split.txt, on a CPU in some hours (one core).
#   bash scripts/best.sh CBSD68 CT.dcm PHANTOM.npy BRAIN.npy [OUT]
# CBSD68: a folder with 0000.png to 0009.png; CT.dcm: abdomen_512.dcm; PHANTOM.npy, BRAIN.npy:
# phantom_4coil.npy and brain_gre_16coil.npy. BM3D takes part where its package is installed.
# A finished run is not done again.
set -uo pipefail
cbsd=$(realpath "$1")
abdomen=$(realpath "$2")
phantom=$(realpath "$3")
brain=$(realpath "$4")
out=$(realpath -m "${5:-results/best}")
cd "$(dirname "$0")/.."
head=$(python -c 'from pydicom.data import get_testdata_file as f; print(f("693_J2KI.dcm", download=False))')

run() { python "aseqdip_$1.py" --width 16 --precision bf16 --out "$out" "${@:2}"; }
best() { run "$1" --preset best "${@:2}"; }
pictures=(--data "$cbsd" --crop 128)

# Best, and the classical methods
best denoising "${pictures[@]}" --images 10 --sigma 25 --method tv,nlm,wavelet,bm3d,split_dip
best inpainting "${pictures[@]}" --images 10 --method biharmonic,linear,tv,split_dip
best inpainting "${pictures[@]}" --images 10 --mask random --method linear,tv,split_dip
for slice in "$abdomen" "$head"; do
    for views in 18 30; do
        best ct --data "$slice" --resize 128 --views $views --width 32 \
            --method fbp,sart,tv,aseqdip,split_dip
        run ct --data "$slice" --resize 128 --views $views  # the paper's text
    done
done
mri=zero_filled,cg_sense,l1_wavelet,tv,aseqdip,split_dip
best mri --data "$phantom" --accel 4 --method $mri
run mri --data "$phantom" --accel 4
best mri --data "$brain" --accel 3 --center-fraction 0.17 --method $mri
run mri --data "$brain" --accel 3 --center-fraction 0.17
best mri --accel 4 --method zero_filled,cg_sense,l1_wavelet,tv,split_dip
for seed in 1 2; do
    best mri --data "$phantom" --accel 4 --seed $seed
    best mri --data "$brain" --accel 3 --center-fraction 0.17 --seed $seed
done

# The first four pictures: the paper's text, the public settings, other networks
few=("${pictures[@]}" --images 4)
best deblurring "${few[@]}" --blur camera --method aseqdip,vanilla_dip,self_guided_dip
run deblurring "${few[@]}" --blur camera
run denoising "${few[@]}" --sigma 25 --method aseqdip,rethinking_dip
run inpainting "${few[@]}"
run inpainting "${few[@]}" --preset public
run inpainting "${few[@]}" --mask random
