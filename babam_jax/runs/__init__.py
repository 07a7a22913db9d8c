"""Many experiments: planned, executed here or on a cluster, tabulated."""
