"""How fast it is, how soon it answers, and how much memory it takes."""
