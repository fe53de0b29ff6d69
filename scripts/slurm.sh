#!/usr/bin/env bash
# Any number of nodes under Slurm. Five minutes before the time limit, and at `scancel --batch
# --signal USR1 JOB`, the run is checkpointed and the job put back into the queue; it goes on from
# there, as it does when a node dies or the job is preempted.
#   sbatch --nodes 4 --gpus-per-node 8 --cpus-per-task 96 scripts/slurm.sh \
#       pretrain +exp=tiktok_vitg run=cluster data.train_list=LIST data.root=DIR
# Submit it where output_dir belongs, with the environment active. Environment: PROCESSES (of each
# node: one a GPU), RESTARTS (3), PYTHON (python).
#SBATCH --job-name=videomae
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --output=%x-%j.log
set -uo pipefail
if [[ $# == 0 || $1 == --help || $1 == -h ]]; then sed -n '2,9s/^# //p' "$0"; exit; fi
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
echo "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST"

asked=
stop() {
  echo "job $SLURM_JOB_ID is asked to stop: a checkpoint, then back into the queue"
  asked=yes
  kill -USR1 "$step"  # srun passes it on to every node
}
trap stop USR1

# Else processes that are started again look for those that are gone.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# What each node begins with.
# Gloo takes the interface of the machine's own name, which may be the loopback: name the one that
# leads to the first machine or, there, holds its address. Where it cannot be told, none is named.
begin='
head=$1
# Decoding processes, shards and connections are open files: up to 65,536, as the machine allows.
most=$(ulimit -Hn)
[[ $most != unlimited && $most -lt 65536 ]] || most=65536
[[ $(ulimit -Sn) == unlimited || $(ulimit -Sn) -ge $most ]] || ulimit -Sn "$most"
if [[ -z ${GLOO_SOCKET_IFNAME:-} ]]; then
  address=$(getent ahostsv4 "$head" | awk "NR == 1 {print \$1}")
  [[ $address && $address != 127.* ]] || address=1.1.1.1  # the name leads nowhere: the way out
  found=$(ip -o -4 address show to "$address" | awk "{print \$2; exit}")
  [[ $found ]] || found=$(ip -o route get "$address" | sed -n "s/.* dev \([^ ]*\).*/\1/p")
  [[ ! $found ]] || export GLOO_SOCKET_IFNAME=$found
fi
exec "${@:2}"'
# SLURM_CPUS_PER_TASK is not passed on to steps by itself.
srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task "$SLURM_CPUS_PER_TASK"} \
  bash -c "$begin" begin "$head" "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes "$SLURM_JOB_NUM_NODES" --rdzv-backend c10d --rdzv-endpoint "$head:$port" \
  --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
  --nproc-per-node "${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}" --max-restarts "${RESTARTS:-3}" \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 240 \
  -m "videomae.$1" resume=auto "${@:2}" &
step=$!
wait "$step"  # until it ends, or a signal comes
code=$?
if [[ $asked ]]; then
  wait "$step"
  scontrol requeue "$SLURM_JOB_ID"
  sleep 60  # the job ends here
fi
exit "$code"
