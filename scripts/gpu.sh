#!/usr/bin/env bash
# All that has to be measured on a GPU, within some minutes: OUT/gpu.json, OUT/gpu.md.
#   bash scripts/gpu.sh DATA OUT [--minutes 9] [--parts smoke bench campaign] [--against ASEQ_DIP] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m scripts.gpu "$@"
