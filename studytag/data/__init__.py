"""From raw files of articles to labelled, deduplicated, split tables."""
