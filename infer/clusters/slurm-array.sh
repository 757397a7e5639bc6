#!/usr/bin/env bash
# Tag a folder of files with sixteen tasks: sbatch infer/clusters/slurm-array.sh records/ tagged/
#
# Both folders lie on a file system that all nodes see. Each task takes its share of the files; a
# task that is killed, or whose time is over, goes on where it stopped when it runs again.
#SBATCH --job-name=studytag
#SBATCH --array=1-16 # as many as SHARDS below; --array=7 repeats the seventh alone
#SBATCH --cpus-per-task=8
#SBATCH --mem=4G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --output=studytag-%A_%a.log
#SBATCH --open-mode=append
set -uo pipefail
SHARDS=16

# A fixed variant: nodes with different processors would otherwise choose differently.
studytag predict "$1" "$2" --output-format parquet --variant int8 \
    --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --log-json &
child=$!
trap 'kill -TERM "$child"' TERM
wait "$child"
code=$?
if kill -0 "$child" 2>/dev/null; then # the signal ended only the waiting
    wait "$child"
    code=$?
fi
# 75: stopped in order, run the same command to go on.
if [ "$code" -eq 75 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    exit 0
fi
exit "$code"
