"""How good is it, beside simpler systems, on articles that training never saw?"""
