#!/usr/bin/env bash
# Table 2, CT from 18 and 30 views, beside the paper's figures; --reference FILE for Ref-Guided DIP,
# -- --prior FILE for MCG.
#   bash scripts/table2_ct.sh [--data FOLDER] [--images N] [--out DIR] [--quick] [--dry-run] [...]
set -euo pipefail
cd "$(dirname "$0")/.."
methods=mcg,fbp,ref_guided_dip,vanilla_dip,self_guided_dip,aseqdip,sart,tv
same="--resize 512 --set fbp.filter_name=ramp fbp.cutoff=1 --method $methods --list data/aapm.txt"
exec python -m scripts.jobs "Table 2, CT" --name table2_ct --images 20 "$@" <<END
column 1 (18 views): python aseqdip_ct.py --views 18 $same
column 2 (30 views): python aseqdip_ct.py --views 30 $same
END
