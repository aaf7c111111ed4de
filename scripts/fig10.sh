#!/usr/bin/env bash
# Figure 10, PSNR over the updates with N, K of (1, 4000), (2, 2000), (4, 1000); four tasks.
#   bash scripts/fig10.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
updates=4000
if [[ " $* " =~ " --quick "|" --preset"[\ =]quick ]]; then updates=500; fi
panel() {  # TITLE COMMAND
    for N in 1 2 4; do echo "$1 / N = $N: python $2 --N $N --K $((updates / N))"; done
}
exec python -m scripts.jobs "Figure 10, updates for each input" --name fig10 --curves --images 20 \
    --note "The paper does not say at which settings; the first of each task." "$@" <<END
$(panel "MRI, 4x" "aseqdip_mri.py --accel 4 --list data/fastmri.txt")
$(panel "CT, 18 views" "aseqdip_ct.py --views 18 --resize 512 --list data/aapm.txt")
$(panel "denoising, sigma 15" "aseqdip_denoising.py --sigma 15 --resize 512 --list data/cbsd68.txt")
$(panel "inpainting, HIAR 0.1" "aseqdip_inpainting.py --hiar 0.1 --resize 512 --list data/cbsd68.txt")
END
