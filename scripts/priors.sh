#!/usr/bin/env bash
# The runs of docs/priors.md with priors of prior_train.py, of the test half of data/split.txt.
#   bash scripts/priors.sh MRI.pt CT.pt IMAGES.pt CBSD68 CT.dcm BRAIN.npy [OUT]
#   python -m scripts.results OUT
# CBSD68: a folder with 0000.png and 0001.png; CT.dcm: abdomen_512.dcm; BRAIN.npy:
# brain_gre_16coil.npy. A finished run is not done again. OUT has a folder for each variant: what
# the networks start from, or the order of uDiG-DIP's public script.
set -uo pipefail
mri=$(realpath "$1")
ct=$(realpath "$2")
images=$(realpath "$3")
cbsd=$(realpath "$4")
abdomen=$(realpath "$5")
brain=$(realpath "$6")
out=$(realpath -m "${7:-results/priors}")
cd "$(dirname "$0")/.."
head=$(python -c 'from pydicom.data import get_testdata_file as f; print(f("693_J2KI.dcm", download=False))')

# run VARIANT TASK FLAGS
run() { python "aseqdip_$2.py" --preset best --width 16 --precision bf16 --out "$out/$1" "${@:3}"; }

scan=(mri --data "$brain" --accel 3 --center-fraction 0.17)
run "direct start" "${scan[@]}" --z0 adjoint --prior "$mri" --method aseqdip,udig_dip,dds,score_mri \
    --set score_mri.n_steps=200
run "TV start" "${scan[@]}" --method aseqdip
run released "${scan[@]}" --prior "$mri" --method udig_dip --set order=released

for file in "$abdomen" "$head"; do
    slice=(ct --data "$file" --resize 128 --views 30)
    run "direct start" "${slice[@]}" --z0 fbp --prior "$ct" --method aseqdip,udig_dip,dds,mcg \
        --set mcg.n_steps=200
    run "TV start" "${slice[@]}" --method aseqdip
    run released "${slice[@]}" --prior "$ct" --method udig_dip --set order=released
done

pictures=(--data "$cbsd" --crop 128 --images 2 --prior "$images" --method aseqdip,dps,ddnm --set dps.n_steps=200)
run "direct start" denoising "${pictures[@]}" --sigma 25
run "direct start" inpainting "${pictures[@]}"
