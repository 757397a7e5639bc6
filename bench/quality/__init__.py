"""How good it is, beside simpler systems, on articles that training never saw."""
