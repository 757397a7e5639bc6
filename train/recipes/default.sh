#!/usr/bin/env bash
# Rebuilds the tagger that ships:
#
#     bash train/recipes/default.sh RECORDS
#
# RECORDS is the folder of PubMed records that records.py names. The bundle goes to
# artifacts/default. HARDWARE names a file of train/accelerate: cpu_bf16 (the default, for processors
# with avx512_bf16 or amx_bf16 in /proc/cpuinfo), cpu, or gpu. Two runs on the same processor give the
# same weights.
set -euo pipefail
hardware="train/accelerate/${HARDWARE:-cpu_bf16}.yaml"
folder=artifacts/default-tables
python train/recipes/records.py "$1" artifacts/default-records.parquet
studytag data build artifacts/default-records.parquet --output "$folder" --split-by column
accelerate launch --config_file "$hardware" train --config default \
  --train-file "$folder/train.parquet" --validation-file "$folder/val.parquet" \
  --output-dir artifacts/default-model
studytag export --model artifacts/default-model/best --validation "$folder/val.parquet" \
  --variants int8 fast --output artifacts/default
