"""How fast is it, how soon does it answer, and how much memory does it take?"""
