"""Tag on a Spark cluster: `spark-submit infer/examples/spark_job.py BUNDLE in/ out/`.

Reads parquet, tags and writes parquet. Spark repeats a task whose worker is lost, and its output
appears when it is committed. The executors need studytag and the bundle: a package that carries the
bundle (`studytag package`) brings both.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

from studytag.inference.spark import tag_partitions

bundle, source, target = sys.argv[1:]
spark = SparkSession.builder.appName("studytag").getOrCreate()
articles = spark.read.parquet(source)
tagged = articles.mapInArrow(*tag_partitions(articles.schema, bundle))
tagged.write.parquet(target)
spark.stop()
