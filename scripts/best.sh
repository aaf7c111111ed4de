#!/usr/bin/env bash
# The runs of docs/results.md, of the test half of data/split.txt, on a CPU; it takes days (one core).
#   bash scripts/best.sh CBSD68 CT.dcm PHANTOM.npy BRAIN.npy [OUT]
#   python -m scripts.results OUT --record docs/runs.csv
#   python -m scripts.results docs/runs.csv --page docs/results.md --figure docs/images/summary.png
# CBSD68: a folder with 0000.png to 0009.png; CT.dcm: abdomen_512.dcm; PHANTOM.npy, BRAIN.npy:
# phantom_4coil.npy and brain_gre_16coil.npy; data/README.md says where they are. The spine is a file of
# the package pydicom-data, which needs pylibjpeg-libjpeg to be read. BM3D takes part where its package
# is installed.
# A finished run is not done again. OUT has a folder for each variant.
set -uo pipefail
cbsd=$(realpath "$1")
abdomen=$(realpath "$2")
phantom=$(realpath "$3")
brain=$(realpath "$4")
out=$(realpath -m "${5:-results/best}")
cd "$(dirname "$0")/.."
pydicom_file() { python -c 'import sys; from pydicom.data import get_testdata_file as find
print(find(sys.argv[1], download=False) or "")' "$1"; }
head=$(pydicom_file 693_J2KI.dcm)
slices=("$abdomen" "$head")
spine=$(pydicom_file bad_sequence.dcm)
if [ -n "$spine" ]; then
    mkdir -p "$out"
    ln -sf "$spine" "$out/spine.dcm"
    slices+=("$out/spine.dcm")
else
    echo "the spine is left out; for it run: pip install pydicom-data pylibjpeg pylibjpeg-libjpeg" >&2
fi

# "bm3d," where it is installed
bm3d=$(python -c 'import importlib.util as u; print("bm3d," if u.find_spec("bm3d") else "")')
[ -n "$bm3d" ] || echo "BM3D is left out; for it run: pip install bm3d" >&2
# run VARIANT TASK FLAGS
run() { python "aseqdip_$2.py" --width 16 --precision bf16 --out "$out/$1" "${@:3}"; }
best() { run best "$1" --preset best "${@:2}"; }
one_network() { run "one network" "$1" --preset best --method split_dip --set members=1 "${@:2}"; }
full_width() { python "aseqdip_$1.py" --preset best --precision bf16 --out "$out/full width" "${@:2}"; }

each_slice() {
    for slice in "${slices[@]}"; do
        for views in 18 30; do "$@" --data "$slice" --resize 128 --views $views; done
    done
}
each_scan() {
    "$@" --data "$brain" --accel 3 --center-fraction 0.17
    "$@" --data "$phantom" --accel 4
    "$@" --accel 4
}

# Best, and the classical methods
with_mean=fbp,sart,tv,aseqdip,split_dip,aseqdip_split
pictures=(--data "$cbsd" --crop 128 --images 10)
for sigma in 15 25 30; do
    best denoising "${pictures[@]}" --sigma $sigma --method "tv,nlm,wavelet,${bm3d}split_dip"
done
for hole in "--hiar 0.1" "--hiar 0.25" "--mask random"; do
    best inpainting "${pictures[@]}" $hole --method biharmonic,linear,tv,vanilla_dip
    best inpainting "${pictures[@]}" $hole --method split_dip --K 200
done
each_slice best ct --width 32 --method fbp,sart,tv,aseqdip,split_dip
for slice in "${slices[@]}"; do
    best ct --width 32 --data "$slice" --resize 128 --views 30 --photons 20000 --method $with_mean
done
each_scan best mri --method zero_filled,cg_sense,l1_wavelet,tv,aseqdip,split_dip
for seed in 1 2; do
    each_scan best mri --seed $seed
    best mri --data "$phantom" --accel 8 --seed $seed
    best mri --accel 8 --seed $seed
    first=(--data "$cbsd" --crop 128 --images 1 --seed $seed)
    best denoising "${first[@]}" --sigma 25
    for mask in box random; do best inpainting "${first[@]}" --mask $mask; done
    best deblurring "${first[@]}" --blur camera --sigma 2.55
    best superresolution "${first[@]}"
    best ct --width 32 --data "$head" --resize 128 --views 18 --seed $seed
    for slice in "${slices[@]}"; do
        best ct --width 32 --data "$slice" --resize 128 --views 30 --photons 20000 --seed $seed
    done
done
direct_and_best=zero_filled,cg_sense,l1_wavelet,tv,split_dip
best mri --data "$phantom" --accel 8 --method $direct_and_best
best mri --accel 8 --method $direct_and_best

# Full width
each_scan full_width mri
each_slice full_width ct

# The mean of three networks left out
one_network denoising "${pictures[@]}" --sigma 25
each_slice one_network ct --width 32
each_scan one_network mri

# Super-resolution, deblurring, the paper's text, the public settings
best superresolution "${pictures[@]}" --method bicubic,tv,aseqdip,split_dip
best deblurring "${pictures[@]}" --blur camera --method tv,aseqdip,split_dip
for noise in "2.55 0.1" "6.375 0.2"; do  # TV's weight is tuned at each
    read -r sigma weight <<< "$noise"
    best deblurring "${pictures[@]}" --blur camera --sigma "$sigma" --method tv,aseqdip,split_dip \
        --set "tv.lambda_per_sigma=$weight"
done
for sigma in 0 2.55 6.375; do run paper deblurring "${pictures[@]}" --blur camera --sigma $sigma; done
for sigma in 15 25 30; do run paper denoising "${pictures[@]}" --sigma $sigma; done
run "stopped at the noise" denoising "${pictures[@]}" --sigma 25 --stop noise --result average
run paper superresolution "${pictures[@]}"
run paper inpainting "${pictures[@]}" --hiar 0.25
for mask in box random; do
    run paper inpainting "${pictures[@]}" --mask $mask
    run public inpainting "${pictures[@]}" --mask $mask --preset public
done
run public denoising "${pictures[@]}" --sigma 25 --preset public
run public deblurring --data "$cbsd" --crop 128 --images 5 --blur camera --preset public
run public mri --data "$brain" --accel 3 --center-fraction 0.17 --preset public
run public ct --width 32 --data "$abdomen" --resize 128 --views 18 --preset public

# Other networks, with the settings that studies/tune.py chose (docs/tuning.csv)
end=(--result average --finish consistency)
each_slice run tuned ct --width 32 "${end[@]}" --method vanilla_dip --set lr=0.001 --K 500
each_slice run tuned ct --width 32 "${end[@]}" --method es_dip --set lr=0.001 patience=300 --K 500
each_slice run tuned ct --width 32 "${end[@]}" --method sgld_dip --set lr=0.001 temperature=0.01 --K 500
each_slice run tuned ct --width 32 "${end[@]}" --method tv_dip --set lr=0.001 lambda_tv=0.01 --K 500
each_scan run tuned mri "${end[@]}" --method es_dip --set lr=0.001 patience=300 --K 500
each_scan run tuned mri "${end[@]}" --method sgld_dip --set lr=0.001 temperature=0.01 --K 500
each_scan run tuned mri "${end[@]}" --method tv_dip --set lr=0.001 lambda_tv=0.01 --K 500
each_scan run tuned mri "${end[@]}" --method vanilla_dip --set lr=0.001 --K 400
each_scan run tuned mri "${end[@]}" --method self_guided_dip --set lr=0.001 --K 500
run tuned denoising "${pictures[@]}" --sigma 25 --result average --method vanilla_dip,rethinking_dip \
    --set vanilla_dip.lr=0.003 --K 500
run tuned denoising "${pictures[@]}" --sigma 25 --result average --method tv_dip --set lr=0.01 lambda_tv=0.01 --K 500
run tuned denoising "${pictures[@]}" --sigma 25 --result average --method self_guided_dip --set lr=0.001 --K 300
run tuned denoising "${pictures[@]}" --sigma 25 --result average --method es_dip,sgld_dip \
    --set es_dip.patience=100 sgld_dip.temperature=0.01 --K 500
run tuned deblurring "${pictures[@]}" --blur camera "${end[@]}" --method vanilla_dip --set lr=0.003 --K 500
run tuned deblurring "${pictures[@]}" --blur camera "${end[@]}" --method self_guided_dip --set lr=0.001 --K 500
run tuned deblurring "${pictures[@]}" --blur camera --sigma 2.55 "${end[@]}" --method vanilla_dip --set lr=0.01 --K 400
run tuned deblurring "${pictures[@]}" --blur camera --sigma 2.55 "${end[@]}" --method sgld_dip \
    --set lr=0.01 temperature=0.01 --K 500
for mask in box random; do
    run tuned inpainting "${pictures[@]}" --mask $mask "${end[@]}" --method vanilla_dip --set lr=0.01 --K 500
    run tuned inpainting "${pictures[@]}" --mask $mask "${end[@]}" --K 500 \
        --method sgld_dip,tv_dip --set lr=0.01 temperature=0.01 lambda_tv=0.01
done
run tuned superresolution "${pictures[@]}" "${end[@]}" --method vanilla_dip --set lr=0.003 --K 100
run tuned superresolution "${pictures[@]}" "${end[@]}" --method sgld_dip --set lr=0.01 temperature=0.01 --K 500
run tuned superresolution "${pictures[@]}" "${end[@]}" --method tv_dip --set lr=0.003 lambda_tv=0.003 --K 300
run tuned superresolution "${pictures[@]}" "${end[@]}" --method es_dip --set lr=0.003 patience=300 --K 500
run tuned superresolution "${pictures[@]}" "${end[@]}" --method self_guided_dip --set lr=0.001 --K 400
each_slice run "norms, from TV" ct --width 32 "${end[@]}" --method self_guided_dip \
    --set loss=norms alpha=0.02 start=tv --K 800

# Self-Guided DIP with as many updates as aSeqDIP has by the paper's text
each_slice run "4000 updates" ct --width 32 "${end[@]}" --method self_guided_dip
each_scan run "4000 updates" mri "${end[@]}" --method self_guided_dip

# The paper's text on the slices and scans
each_slice run paper ct --width 32
for slice in "${slices[@]}"; do
    run paper ct --width 32 --data "$slice" --resize 128 --views 30 --photons 20000
done
each_scan run paper mri
run paper mri --data "$phantom" --accel 8
run paper mri --accel 8

# Slices and pictures at their own size, beside the tables, and pictures for the pages
full_size() { python "aseqdip_$1.py" --preset best --width 16 --precision bf16 --out "${out}_full_size" "${@:2}"; }
full_size ct --data "$abdomen" --views 18 --window -160 240 --method fbp,sart,tv,aseqdip,split_dip
for slice in "${slices[@]}"; do
    full_size ct --data "$slice" --views 30 --photons 20000 --window -160 240 --method $with_mean
done
full_size mri --accel 4 --precision fp32 --method cg_sense,tv,split_dip
for name in 0000 0001 0002 0003 0004; do
    full_size denoising --data "$cbsd/$name.png" --sigma 25 --method "nlm,${bm3d}split_dip"
done
for name in 0000 0001; do full_size superresolution --data "$cbsd/$name.png" --method bicubic,tv,split_dip; done
full_size inpainting --data "$cbsd/0000.png" --method linear,biharmonic,tv,vanilla_dip
full_size deblurring --data "$cbsd/0000.png" --blur camera --sigma 2.55 --method tv,split_dip \
    --set tv.lambda_per_sigma=0.1
newest() { ls -dt "$@" | head -1; }
# picture TASK METHOD ITEM NAME
picture() {
    python -m scripts.take_picture "$(newest "${out}_full_size/$1/$2/$3"/*)" "$4" \
        --file "$(newest "${out}_full_size/$1/comparison/$3"/*/comparison.png)"
}
picture ct aseqdip_split "$(basename "${abdomen%.*}")" ct_full_size
picture mri split_dip sample mri_sample_best
[ -z "$bm3d" ] || picture denoising split_dip 0001 denoising_full_size  # the page names BM3D
# The paper's setting, of which mri.md shows the course: hours on a CPU
python aseqdip_mri.py --accel 4 --precision bf16 --out "${out}_course"
python -m scripts.take_picture "$(newest "${out}_course"/mri/aseqdip/sample/*)" mri_sample_curve --file curve.png
