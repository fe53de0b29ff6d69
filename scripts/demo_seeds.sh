#!/usr/bin/env bash
# Measure the demo on seeds 0, 1 and 2: pre-training, fine-tuning, and three learning rates from
# scratch, into outputs/demo_seeds. By hand, about half an hour; run again, it goes on.
#   scripts/demo_seeds.sh            SEEDS="0" scripts/demo_seeds.sh
set -euo pipefail
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,4s/^# //p' "$0"; exit; fi
source "$(dirname "$0")/environment.sh" demo

python scripts/make_demo_clips.py --out outputs/demo/clips
for seed in ${SEEDS:-0 1 2}; do
  out=outputs/demo_seeds/$seed
  common=(seed="$seed" resume=auto run.device=cpu)
  python -m videomae.pretrain +exp=demo_pretrain output_dir="$out/pretrain" "${common[@]}"
  python -m videomae.finetune +exp=demo_finetune output_dir="$out/finetune" \
    weights="$out/pretrain" "${common[@]}"
  for lr in ${SCRATCH_LRS:-2.0e-3 4.0e-3 8.0e-3}; do
    python -m videomae.finetune +exp=demo_scratch output_dir="$out/scratch_$lr" \
      optim.base_lr="$lr" "${common[@]}"
  done
  python scripts/demo_controls.py "$out/finetune" | tee "$out/controls.txt"
done
grep -H '"top1"' outputs/demo_seeds/*/*/results.json
