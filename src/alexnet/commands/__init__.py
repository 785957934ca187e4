"""What stands behind each word of the command line: a dataclass whose fields are its flags.

Each imports what it needs inside `run`, so that `--help` answers without importing torch.
"""
