#!/usr/bin/env bash
# Measure on the demo's clips, with seeds 0, 1 and 2, into outputs/demo_seeds: probes of the
# pre-trained and of a random encoder, and fine-tuning by the full recipe (RandAugment, mixup, CutMix,
# erasing, repeats, smoothing, drop path, running mean). By hand; run again, it goes on.
#   scripts/demo_probes.sh           SEEDS="0" scripts/demo_probes.sh
set -euo pipefail
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,5s/^# //p' "$0"; exit; fi
source "$(dirname "$0")/environment.sh" demo

clips=outputs/demo/clips
lists=(data=demo data.train_list="$clips/train.txt" data.test_list="$clips/test.txt")
python scripts/make_demo_clips.py --out "$clips"
for seed in ${SEEDS:-0 1 2}; do
  out=outputs/demo_seeds/$seed
  common=(seed="$seed" run.device=cpu)
  python -m videomae.pretrain +exp=demo_pretrain output_dir="$out/pretrain" resume=auto "${common[@]}"
  python -m videomae.probe model=vit_tiny weights="$out/pretrain" output_dir="$out/probe" \
    "${lists[@]}" overwrite=true "${common[@]}"
  python -m videomae.probe model=vit_tiny weights=scratch output_dir="$out/probe_random" \
    "${lists[@]}" overwrite=true "${common[@]}"
  python -m videomae.finetune +exp=demo_finetune augment=finetune weights="$out/pretrain" \
    data.repeats=2 optim.epochs=64 optim.label_smoothing=0.1 optim.drop_path=0.1 \
    optim.ema_decay=0.99 output_dir="$out/recipe" resume=auto "${common[@]}"
done
grep -H '"top1"' outputs/demo_seeds/*/{probe,probe_random,recipe}/results.json
