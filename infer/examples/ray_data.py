"""Tag on a Ray cluster: `python infer/examples/ray_data.py BUNDLE in/ out/ checkpoint/`.

Reads parquet, tags and writes parquet. The same command goes on where a job that was killed
stopped: Ray keeps in `checkpoint/` the `pmid` of every row that is written, so each row needs one,
and no two the same. On a cluster, all paths are on storage that every machine sees.
"""

from __future__ import annotations

import sys

import ray
from ray.data.checkpoint import CheckpointConfig

from studytag.inference.ray import tag_dataset

bundle, source, target, checkpoint = sys.argv[1:]
context = ray.data.DataContext.get_current()
context.checkpoint_config = CheckpointConfig(id_column="pmid", checkpoint_path=checkpoint)
articles = ray.data.read_parquet(source)
tag_dataset(articles, bundle).write_parquet(target)
