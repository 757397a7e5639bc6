#!/usr/bin/env bash
# Rebuilds the tagger that ships:
#
#     bash train/recipes/default.sh RECORDS
#
# RECORDS is the folder of PubMed records that records.py names. A first model learns from all but
# some sources; on these it is judged, calibrated and given its thresholds: artifacts/held-out. The
# second, which ships, learns from those sources too and takes these over: artifacts/default.
#
# HARDWARE names a file of train/accelerate: cpu_bf16 (the default, for processors with avx512_bf16 or
# amx_bf16 in /proc/cpuinfo), cpu, or gpu. Two runs on the same processor give the same weights.
set -euo pipefail
hardware="train/accelerate/${HARDWARE:-cpu_bf16}.yaml"

tables() { # NAME [--every]
  python train/recipes/records.py "$records" "artifacts/$1-records.parquet" "${@:2}"
  studytag data build "artifacts/$1-records.parquet" --output "artifacts/$1-tables" --split-by column
}

learn() { # NAME OPTION...
  accelerate launch --config_file "$hardware" train --config default \
    --train-file "artifacts/$1-tables/train.parquet" --validation-file "$validation" \
    --output-dir "artifacts/$1-model" "${@:2}"
}

bundle() { # NAME OPTION...
  studytag export --model "artifacts/$1-model/best" --validation "$validation" \
    --variants int8 fast --output "artifacts/$1" "${@:2}"
}

mkdir -p artifacts
records="$1"
validation=artifacts/held-out-tables/val.parquet
tables held-out
learn held-out
bundle held-out

tables default --every
# As many passes over 46,640 articles as 7,000 steps are over 44,299.
learn default --max-train-steps 7370 --calibrate false
bundle default --like artifacts/held-out
