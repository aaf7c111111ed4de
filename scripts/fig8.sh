#!/usr/bin/env bash
# Figure 8, PSNR over the updates: DIP methods in denoising.
#   bash scripts/fig8.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
methods=aseqdip,self_guided_dip,es_dip,rethinking_dip,tv_dip,sgld_dip,vanilla_dip
exec python -m scripts.jobs "Figure 8, denoising over the updates" --name fig8 --curves --images 20 \
    --note "The paper does not give the noise; sigma 30, whose runs Table 2 has too." "$@" <<END
denoising, sigma 30: python aseqdip_denoising.py --sigma 30 --resize 512 --method $methods --list data/cbsd68.txt
END
