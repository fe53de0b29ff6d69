#!/usr/bin/env bash
# See python -m videomae.curate work: make some 200 raw videos whose truth is known, curate them, print
# precision and recall of each stage, and pre-train two steps on the list. Everything is in
# outputs/demo_curate; open corpus/page/index.html there. FOOTAGE=DIR puts genuine footage among the
# rendered videos (bash .ci/genuine DIR fetches some; scripts/make_raw_corpus.py names all that counts).
#   scripts/demo_curate.sh           FEW=1 scripts/demo_curate.sh (18 videos, into outputs/demo_curate_few)
set -euo pipefail
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,6s/^# //p' "$0"; exit; fi
source "$(dirname "$0")/environment.sh" demo,curate-models

demo=outputs/demo_curate sizes='[50,all]' making=()
if [ -n "${FEW:-}" ]; then demo=outputs/demo_curate_few sizes='[all]' making=(--few); fi
footage=${FOOTAGE:-${VIDEOMAE_GENUINE_CLIPS:-}}
[ -z "$footage" ] || making+=(--footage "$footage")
text=()
if python -c 'import rapidocr' 2> /dev/null; then text=(text.model=rapidocr rules.text_max=0.15); fi

python scripts/make_raw_corpus.py --out "$demo" "${making[@]}"
python -m videomae.curate source="$demo/raw" out="$demo/corpus" rules=tiktok \
  persons.detections="$demo/detections.jsonl" "${text[@]}" \
  "tests=[$demo/tests/test.txt]" contamination_recall=3 "sizes=$sizes"
python scripts/demo_curate_table.py "$demo" --out "$demo/corpus"
python -m videomae.pretrain data=custom data.train_list="$demo/corpus/lists/random-all-seed0.parquet" \
  data.root="$demo/raw" model=vit_tiny optim.global_batch=4 run.device_batch=4 optim.lr=2.5e-4 max_steps=2 \
  output_dir="$demo/pretrain" overwrite=true
