#!/usr/bin/env bash
# Several machines without a batch system: the same line on each, at about the same time. A process
# that dies brings all down, and they go on from the last checkpoint.
#   HEAD=first-machine NODES=4 scripts/several_nodes.sh pretrain +exp=tiktok_vitg run=cluster ...
# Environment: HEAD (a machine that all reach), NODES, PORT (29500), RUN (a name that is the same on
# all, default videomae), PROCESSES (of each machine: one a GPU), RESTARTS (3), PYTHON (python).
# output_dir must be on a file system that all of them share.
set -euo pipefail
if [[ $# == 0 || $1 == --help || $1 == -h ]]; then sed -n '2,7s/^# //p' "$0"; exit; fi
if [[ -z ${PROCESSES:-} ]] && ! nvidia-smi -L > /dev/null 2>&1; then
  echo "no GPU answers here (nvidia-smi): say how many processes, PROCESSES=2 ... $0 ..." >&2
  exit 2
fi
# Else processes that are started again look for those that are gone.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# Decoding processes, shards and connections are open files: up to 65,536, as the machine allows.
most=$(ulimit -Hn)
[[ $most != unlimited && $most -lt 65536 ]] || most=65536
[[ $(ulimit -Sn) == unlimited || $(ulimit -Sn) -ge $most ]] || ulimit -Sn "$most"
# Gloo takes the interface of the machine's own name, which may be the loopback: name the one that
# leads to the first machine or, there, holds its address. Where it cannot be told, none is named.
set +e
head=${HEAD:-}
if [[ -z ${GLOO_SOCKET_IFNAME:-} ]]; then
  address=$(getent ahostsv4 "$head" | awk 'NR == 1 {print $1}')
  [[ $address && $address != 127.* ]] || address=1.1.1.1  # its own name leads nowhere: the way out
  found=$(ip -o -4 address show to "$address" | awk '{print $2; exit}')
  [[ $found ]] || found=$(ip -o route get "$address" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
  [[ ! $found ]] || export GLOO_SOCKET_IFNAME=$found
fi
set -e
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes "${NODES:?give the number of machines}" --rdzv-backend c10d \
  --rdzv-endpoint "${HEAD:?give the name of a machine that all reach}:${PORT:-29500}" \
  --rdzv-id "${RUN:-videomae}" \
  --nproc-per-node "${PROCESSES:-gpu}" --max-restarts "${RESTARTS:-3}" \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 240 \
  -m "videomae.$1" resume=auto "${@:2}"
