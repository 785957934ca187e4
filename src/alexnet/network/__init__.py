"""The networks: built from a description, filled with weights, kept on disk."""
