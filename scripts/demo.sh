#!/usr/bin/env bash
# Pre-train a small VideoMAE V2 on real H.264 clips on this machine's CPU, fine-tune it, and compare
# with training from scratch. Everything it makes is in outputs/demo; run again, it goes on where it
# was stopped. SEED=1 scripts/demo.sh uses another seed (in outputs/demo_seed1).
set -euo pipefail
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,4s/^# //p' "$0"; exit; fi
source "$(dirname "$0")/environment.sh" demo

seed=${SEED:-0}
out=outputs/demo
[ "$seed" = 0 ] || out=outputs/demo_seed$seed
clips=outputs/demo/clips
common=(seed="$seed" resume=auto run.device=cpu)

python scripts/make_demo_clips.py --out "$clips"
python -m videomae.pretrain +exp=demo_pretrain output_dir="$out/pretrain" "${common[@]}"
python -m videomae.finetune +exp=demo_finetune output_dir="$out/finetune" \
  weights="$out/pretrain" "${common[@]}"
python -m videomae.finetune +exp=demo_scratch output_dir="$out/scratch" "${common[@]}"
python scripts/demo_table.py "$out"
