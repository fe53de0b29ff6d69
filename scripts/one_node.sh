#!/usr/bin/env bash
# All GPUs of this machine, one process each; a process that dies brings all down, and they go on
# from the last checkpoint.
#   scripts/one_node.sh pretrain +exp=tiktok_vitb run=node8 data.train_list=LIST data.root=DIR
# Environment: PROCESSES (one a GPU), RESTARTS (3), PYTHON (python).
set -euo pipefail
if [[ $# == 0 || $1 == --help || $1 == -h ]]; then sed -n '2,5s/^# //p' "$0"; exit; fi
if [[ -z ${PROCESSES:-} ]] && ! nvidia-smi -L > /dev/null 2>&1; then
  echo "no GPU answers here (nvidia-smi): say how many processes, PROCESSES=2 $0 ..." >&2
  exit 2
fi
# Decoding processes, shards and connections are open files: up to 65,536, as the machine allows.
most=$(ulimit -Hn)
[[ $most != unlimited && $most -lt 65536 ]] || most=65536
[[ $(ulimit -Sn) == unlimited || $(ulimit -Sn) -ge $most ]] || ulimit -Sn "$most"
exec "${PYTHON:-python}" -m torch.distributed.run --standalone \
  --nproc-per-node "${PROCESSES:-gpu}" --max-restarts "${RESTARTS:-3}" \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 240 \
  -m "videomae.$1" resume=auto "${@:2}"
