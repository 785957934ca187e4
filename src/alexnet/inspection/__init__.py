"""Looking into data and networks: what is wrong with the one, what the other looks at."""
