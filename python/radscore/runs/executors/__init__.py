"""Where the steps of a run are carried out: one file an executor."""
