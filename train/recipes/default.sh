#!/usr/bin/env bash
# Rebuilds the tagger that ships:
#
#     bash train/recipes/default.sh RECORDS
#
# RECORDS is the folder of PubMed records that records.py names. The bundle goes to
# artifacts/default. On a processor without bf16 (avx512_bf16 or amx_bf16 in /proc/cpuinfo) leave
# --config_file out. Two runs on the same machine give the same weights.
set -euo pipefail
folder=artifacts/default-tables
python train/recipes/records.py "$1" artifacts/default-records.parquet
studytag data build artifacts/default-records.parquet --output "$folder" --split-by column
accelerate launch --config_file train/accelerate/cpu_bf16.yaml train --config default \
  --train-file "$folder/train.parquet" --validation-file "$folder/val.parquet" \
  --output-dir artifacts/default-model
studytag export --model artifacts/default-model/best --validation "$folder/val.parquet" \
  --ngrams "$folder/train.parquet" --variants int8 fast --output artifacts/default
