#!/usr/bin/env bash
# Real measurements: the pictures and figures of docs/results.md, on a CPU in an hour (one core).
#   bash scripts/real.sh TOOTH.npy NOISY.png CLEAN.png BLURRED.png KERNEL.npy SHARP.png [OUT]
# TOOTH.npy: sinogram of 181 views, one each degree, of which each sixth is taken. NOISY.png: a camera's
# picture at ISO 3200. BLURRED.png, KERNEL.npy: a picture blurred by a camera's motion, and its path.
# CLEAN.png, SHARP.png: references, for the PSNR that is printed at the end; no method sees them.
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

newest() { ls -t "$@" | head -1; }
# picture NAME TASK METHODS FLAGS: the comparison of the methods, with the facts of the last one
picture() {
    python "aseqdip_$2.py" --preset best --width 16 --precision bf16 --out "$out/$1" --method "$3" "${@:4}"
    local run
    run=$(dirname "$(newest "$out/$1/$2/${3##*,}"/*/*/metrics.json)")
    python -m scripts.take_picture "$run" "$1" --file "$(newest "$out/$1/$2"/comparison/*/*/comparison.png)"
}

mkdir -p "$out"
python - "$tooth" "$out" <<'PYTHON'
import sys
import numpy as np
views = np.load(sys.argv[1])
np.save(f"{sys.argv[2]}/tooth30.npy", views[:180:6])
PYTHON
picture real_tooth ct fbp,sart,tv,split_dip --sinogram "$out/tooth30.npy" --angles 30 --set members=1
# Without --sigma a note says that this picture's noise may be estimated too low, and proposes 4.8.
picture real_noise denoising nlm,bm3d,split_dip --data "$noisy" --measured --crop 128 --sigma 4.8
picture real_blur deblurring vanilla_dip,tv,aseqdip,split_dip --data "$blurred" --measured --kernel "$kernel"

python - "$out" "$noisy" "$clean" "$blurred" "$sharp" <<'PYTHON'
import json
import sys
from pathlib import Path
import numpy as np
from skimage import img_as_float, io
from skimage.metrics import peak_signal_noise_ratio
BORDER = 20  # pixels that the blur's unknown surroundings disturb
out, *files = sys.argv[1:]
noisy, clean, blurred, sharp = (img_as_float(io.imread(file)) for file in files)


def centre(x, height, width):
    top, left = (x.shape[0] - height) // 2, (x.shape[1] - width) // 2
    return x[top : top + height, left : left + width]


for name, measured, truth, border in (
    ("real_noise", noisy, clean, 0), ("real_blur", blurred, sharp, BORDER)
):
    files = sorted(Path(out, name).glob("*/*/*/*/reconstruction.npy"), key=lambda p: p.stat().st_mtime)
    found = {p.parts[-4]: np.load(p) for p in files}  # the newest of each method
    facts = Path("docs/images", f"{name}.json")
    record = json.loads(facts.read_text())
    height, width = next(iter(found.values())).shape[:2]
    for method, x in {"measured": centre(measured, height, width), **found}.items():
        pair = (centre(truth, height, width), x.squeeze().clip(0, 1))
        pair = (centre(v, height - 2 * border, width - 2 * border) for v in pair)
        record[f"psnr_{method}"] = peak_signal_noise_ratio(*pair, data_range=1)
        print(f"{name}, {method}: {record[f'psnr_{method}']:.2f} dB")
    facts.write_text(json.dumps(record, indent=1) + "\n")
PYTHON
