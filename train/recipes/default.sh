#!/usr/bin/env bash
# Rebuilds the tagger that ships from a training and a validation table:
#
#     bash train/recipes/default.sh TRAIN.parquet VALIDATION.parquet
#
# The validation table should hold whole sources that the training table has nothing of: thresholds
# and calibration are fitted to it. The bundle goes to artifacts/default; two runs on the same
# machine give the same weights.
set -euo pipefail
train=$1 validation=$2
studytag train --config default --train-file "$train" --validation-file "$validation" \
  --output-dir artifacts/default-model
studytag export --model artifacts/default-model/best --validation "$validation" \
  --variants int8 --output artifacts/default
