"""How good is it: figures of logits, of a run, and whether a difference is more than noise."""
