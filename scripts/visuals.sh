#!/usr/bin/env bash
# Figures 5 and 11 to 17 in form: one image of each task, the methods side by side.
#   bash scripts/visuals.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
# FOLDER holds the folders fastmri, aapm, cbsd68, ffhq; a task that fails does not stop the next.
# After a lone -- come flags that all five scripts have, such as --width 16.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
visuals() {  # NAME TITLE FLAGS; 130 is the status after a signal
    [ "$status" = 130 ] || python -m scripts.jobs "$2" --name "$1" --pictures --images 1 "${@:3}" || status=$?
}
same="--method ref_guided_dip,vanilla_dip,self_guided_dip,aseqdip"
visuals visuals_mri "Figures 5, 11 and 12, MRI" "$@" <<END
accel=4: python aseqdip_mri.py --accel 4 $same --list data/fastmri.txt
accel=8: python aseqdip_mri.py --accel 8 $same --list data/fastmri.txt
END
visuals visuals_ct "Figures 5, 13 and 14, CT" "$@" <<END
views=18: python aseqdip_ct.py --views 18 --resize 512 $same --list data/aapm.txt
views=30: python aseqdip_ct.py --views 30 --resize 512 $same --list data/aapm.txt
END
visuals visuals_denoising "Figures 5 and 16, denoising" "$@" <<END
sigma=25: python aseqdip_denoising.py --sigma 25 --resize 512 --method rethinking_dip,es_dip,self_guided_dip,aseqdip --list data/cbsd68.txt
END
same="--resize 512 --method sgld_dip,es_dip,self_guided_dip,aseqdip --list data/cbsd68.txt"
visuals visuals_inpainting "Figures 5 and 15, inpainting" "$@" <<END
hiar=0.1: python aseqdip_inpainting.py --hiar 0.1 $same
hiar=0.25: python aseqdip_inpainting.py --hiar 0.25 $same
END
same="--method sgld_dip,self_guided_dip,aseqdip --list data/ffhq.txt"
camera="ffhq_camera (camera blur, a stand-in for BKSE): python aseqdip_deblurring.py --blur camera $same"
if [[ " $* " == *" --bkse-weights"* ]]; then camera=; fi
visuals visuals_deblurring "Figures 5 and 17, deblurring" "$@" <<END
ffhq_bkse (BKSE blur): python aseqdip_deblurring.py --blur bkse --bkse-weights GOPRO_wVAE.pth $same
$camera
END
exit "$status"
