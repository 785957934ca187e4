"""What is wrong with a data set, or was with that of a run."""
