"""One run: data and a recipe -> a run directory."""
