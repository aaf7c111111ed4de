#!/usr/bin/env bash
# The runs of docs/priors.md with priors of prior_train.py, of the test half of data/split.txt.
#   bash scripts/priors.sh PRIORS CBSD68 CT.dcm BRAIN.npy PHANTOM.npy [OUT]
#   python -m scripts.results OUT
# PRIORS: a folder with mri.pt, ct.pt, images.pt, and mri_ve.pt, ct_ve.pt, trained with --levels ve.
# CBSD68: a folder with 0000.png to 0002.png; CT.dcm: abdomen_512.dcm; BRAIN.npy, PHANTOM.npy:
# brain_gre_16coil.npy and phantom_4coil.npy. A finished run is not done again. OUT has a folder for
# each variant: what the networks start from, or the order of uDiG-DIP's public script.
set -uo pipefail
priors=$(realpath -e "$1") || exit
cbsd=$(realpath -e "$2") || exit
abdomen=$(realpath -e "$3") || exit
brain=$(realpath -e "$4") || exit
phantom=$(realpath -e "$5") || exit
out=$(realpath -m "${6:-results/priors}")
cd "$(dirname "$0")/.."
head=$(python -c 'from pydicom.data import get_testdata_file as f; print(f("693_J2KI.dcm", download=False))') || exit

# run VARIANT TASK FLAGS
run() { python "aseqdip_$2.py" --preset best --width 16 --precision bf16 --out "$out/$1" "${@:3}"; }

mri=(--prior "$priors/mri.pt" --prior "$priors/mri_ve.pt")
each_scan() {
    run "$1" mri --data "$brain" --accel 3 --center-fraction 0.17 "${@:2}"
    run "$1" mri --data "$phantom" --accel 4 "${@:2}"
}
each_scan "direct start" --z0 adjoint "${mri[@]}" --method aseqdip,udig_dip,dds,score_mri
each_scan "TV start" --method aseqdip
each_scan released "${mri[@]}" --method udig_dip --set order=released

ct=(--prior "$priors/ct.pt" --prior "$priors/ct_ve.pt")
each_slice() {
    for file in "$abdomen" "$head"; do
        run "$1" ct --data "$file" --resize 128 --views 30 "${@:2}"
    done
}
each_slice "direct start" --z0 fbp "${ct[@]}" --method aseqdip,udig_dip,dds
each_slice "TV start" --method aseqdip
each_slice released "${ct[@]}" --method udig_dip --set order=released
each_slice "direct start" "${ct[@]}" --method mcg --set n_steps=500

pictures=(--data "$cbsd" --crop 128 --images 3 --prior "$priors/images.pt")
run "direct start" denoising "${pictures[@]}" --sigma 25 --method aseqdip,dps,ddnm --set dps.n_steps=200
run "direct start" inpainting "${pictures[@]}" --K 40 --N 10 --ema-decay 0.9 --method aseqdip,dps,ddnm --set dps.n_steps=200
run "direct start" deblurring "${pictures[@]}" --blur camera --finish none --method aseqdip,udig_dip,dps --set dps.n_steps=200
