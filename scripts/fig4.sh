#!/usr/bin/env bash
# Figure 4, PSNR over the updates: aSeqDIP with lambda 1 and 0, Self-Guided, Vanilla; MRI and CT.
#   bash scripts/fig4.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
methods=aseqdip,aseqdip_lambda0,self_guided_dip,vanilla_dip
exec python -m scripts.jobs "Figure 4, PSNR over the updates" --name fig4 --curves --images 20 "$@" <<END
MRI, 4x: python aseqdip_mri.py --accel 4 --method $methods --list data/fastmri.txt
CT, 18 views: python aseqdip_ct.py --views 18 --resize 512 --method $methods --list data/aapm.txt
END
