#!/usr/bin/env bash
# Every figure of docs/performance.md but that of the schedules: all tasks, on what device there is.
#   bash scripts/bench.sh [--against ASEQ_DIP] [further flags of bench.py]
# On a CPU 128x128, on a GPU the sizes of the paper.
set -euo pipefail
cd "$(dirname "$0")/.."
cuda=$(python -c 'import torch; print(int(torch.cuda.is_available()))')
if [ "$cuda" = 1 ]; then mri=320 other=512; else mri=128 other=128; fi
python -m scripts.bench mri --size "$mri" "$@"
python -m scripts.bench ct --size "$other" "$@"
python -m scripts.bench denoising --size "$other" "$@"
while [ "${1:-}" = --against ]; do shift 2; done  # there is no public loop with this network
python -m scripts.bench inpainting --size "$other" "$@"
python -m scripts.bench deblurring --size "$other" "$@"
