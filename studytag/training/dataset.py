from studytag.evaluation.split import Split, load_split, read_label_set  # noqa: F401, D100
