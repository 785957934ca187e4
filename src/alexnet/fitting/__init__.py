"""Training on arrays: the loop, what it optimises, features computed once, many heads at once.

Nothing here knows of recipes (but `inputs`) or of run directories.
"""
