"""How graphs are run: compiled functions, explanations, jobs."""
