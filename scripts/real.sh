#!/usr/bin/env bash
# Real measurements: the pictures and figures of docs/results.md, on a CPU in an hour (one core).
#   bash scripts/real.sh TOOTH.npy NOISY.png CLEAN.png BLURRED.png KERNEL.npy SHARP.png [OUT]
# TOOTH.npy: sinogram of 181 views, one each degree, of which each sixth is taken. NOISY.png: a camera's
# picture at ISO 3200. BLURRED.png, KERNEL.npy: a picture blurred by a camera's motion, and its path.
# CLEAN.png, SHARP.png: references, for pictures and PSNR; no method sees them. The tooth's is SART of all
# views, among them the 30 that the methods get. The pictures and figures in docs/images are overwritten.
# BM3D takes part where its package is installed. A finished run is not done again.
set -euo pipefail
tooth=$(realpath "$1")
noisy=$(realpath "$2")
clean=$(realpath "$3")
blurred=$(realpath "$4")
kernel=$(realpath "$5")
sharp=$(realpath "$6")
out=$(realpath -m "${7:-results/real}")
cd "$(dirname "$0")/.."

# "bm3d," where it is installed
bm3d=$(python -c 'import importlib.util as u; print("bm3d," if u.find_spec("bm3d") else "")')
[ -n "$bm3d" ] || echo "BM3D is left out; for it run: pip install bm3d" >&2
newest() { ls -t "$@" | head -1; }
# run NAME TASK METHODS FLAGS
run() { python "aseqdip_$2.py" --preset best --width 16 --precision bf16 --out "$out/$1" --method "$3" "${@:4}"; }
# show NAME METHOD REFERENCE ITS_TITLE TITLE FLAGS: all methods of a run beside its reference, in docs/images,
# with the facts of one method and the figures of all
show() {
    python -m scripts.score_real "$out/$1" "$3" --reference-title "$4" --title "$5" "${@:6}" \
        --picture "$out/$1.png" --record "$out/$1.json"
    python -m scripts.take_picture "$(dirname "$(newest "$out/$1"/*/"$2"/*/*/metrics.json)")" "$1" \
        --file "$out/$1.png" --more "$out/$1.json"
}

mkdir -p "$out"
python - "$tooth" "$out" <<'PYTHON'
import sys
import numpy as np
views = np.load(sys.argv[1])
np.save(f"{sys.argv[2]}/tooth30.npy", views[:180:6])
np.save(f"{sys.argv[2]}/tooth180.npy", views[:180])
PYTHON
run real_tooth ct fbp,sart,tv,aseqdip,split_dip,aseqdip_split --width 32 --sinogram "$out/tooth30.npy" --angles 30
python aseqdip_ct.py --sinogram "$out/tooth180.npy" --angles 180 --method sart --out "$out/all_views"
show real_tooth aseqdip_split "$(newest "$out"/all_views/ct/sart/*/*/reconstruction.npy)" "SART of 180 views" \
    "a tooth from 30 views" --sinogram "$out/tooth180.npy" --omit fbp sart

# Without both flags a note says that this picture's noise may be estimated too low, and proposes them.
run real_noise denoising "nlm,${bm3d}split_dip" --data "$noisy" --measured --crop 128 --noise correlated --sigma 4.8
show real_noise split_dip "$clean" "mean of many shots" "a camera at ISO 3200" --measured "$noisy"

run real_blur deblurring tv,vanilla_dip,aseqdip,split_dip --data "$blurred" --measured --kernel "$kernel" \
    --set split_dip.start_per_sigma=0.15  # chosen on another such photograph
# The blur's unknown surroundings disturb 20 pixels at the borders.
show real_blur split_dip "$sharp" "sharp reference" "a moving camera" --measured "$blurred" --border 20
