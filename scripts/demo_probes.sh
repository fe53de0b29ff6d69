#!/usr/bin/env bash
# Measure on the demo's clips, with seeds 0, 1 and 2, into outputs/demo_seeds: probes of the
# pre-trained and of a random encoder, on the demo's 200 labelled clips and on 2,000; and fine-tuning
# by the full recipe (RandAugment, mixup, CutMix, erasing, repeats, smoothing, drop path, running
# mean). By hand; run again, it goes on.
#   scripts/demo_probes.sh           SEEDS="0" scripts/demo_probes.sh
set -euo pipefail
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,6s/^# //p' "$0"; exit; fi
source "$(dirname "$0")/environment.sh" demo

clips=outputs/demo/clips more=outputs/demo/clips_2000
python scripts/make_demo_clips.py --out "$clips"
python scripts/make_demo_clips.py --out "$more" --pretrain 8 --train 2000
for seed in ${SEEDS:-0 1 2}; do
  out=outputs/demo_seeds/$seed
  common=(seed="$seed" run.device=cpu)
  python -m videomae.pretrain +exp=demo_pretrain output_dir="$out/pretrain" resume=auto "${common[@]}"
  for labelled in "$clips" "$more"; do
    probe=(data=demo data.train_list="$labelled/train.txt" data.test_list="$labelled/test.txt"
      data.root="$labelled/videos" model=vit_tiny overwrite=true "${common[@]}")
    suffix=$(basename "$labelled")
    python -m videomae.probe weights="$out/pretrain" output_dir="$out/probe_$suffix" "${probe[@]}"
    python -m videomae.probe weights=scratch output_dir="$out/random_$suffix" "${probe[@]}"
  done
  python -m videomae.finetune +exp=demo_finetune augment=finetune weights="$out/pretrain" \
    data.repeats=2 optim.epochs=64 optim.label_smoothing=0.1 optim.drop_path=0.1 \
    optim.ema_decay=0.99 output_dir="$out/recipe" resume=auto "${common[@]}"
done
grep -H '"top1"' outputs/demo_seeds/*/{probe_*,random_*,recipe}/results.json
