#!/usr/bin/env bash
# Figure 9, PSNR over 10000 updates (--quick 1250): aSeqDIP with lambda 0.5, 1, 2; MRI.
#   bash scripts/fig9.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
K=5000
if [[ " $* " =~ " --quick "|" --preset"[\ =]quick ]]; then K=125; fi  # N is 10 there,
if [[ " $* " =~ " --preset"[\ =](best|public) ]]; then K=1000; fi  # and here
exec python -m scripts.jobs "Figure 9, lambda over the updates" --name fig9 --curves --images 20 "$@" <<END
MRI, 4x / lambda = 0.5: python aseqdip_mri.py --accel 4 --method aseqdip --lambda-ae 0.5 --K $K --list data/fastmri.txt
MRI, 4x / lambda = 1: python aseqdip_mri.py --accel 4 --method aseqdip --lambda-ae 1 --K $K --list data/fastmri.txt
MRI, 4x / lambda = 2: python aseqdip_mri.py --accel 4 --method aseqdip --lambda-ae 2 --K $K --list data/fastmri.txt
END
