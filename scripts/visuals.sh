#!/usr/bin/env bash
# Figures 5 and 11 to 17 in form: one image of each task, the methods side by side.
#   bash scripts/visuals.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [...]
# FOLDER holds the folders fastmri, aapm, cbsd68, ffhq; a task that fails does not stop the next.
# After a lone -- come flags that all five scripts have, such as --width 16.
set -uo pipefail
status=0
for task in mri ct denoising inpainting deblurring; do
    python "$(dirname "$0")/launch.py" "visuals_$task" "$@" || status=$?
    if [ "$status" = 130 ]; then break; fi  # stopped by a signal
done
exit "$status"
