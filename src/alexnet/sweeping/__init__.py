"""Many runs: a space of recipes -> trials -> what is signal and what is noise."""
