"""Many experiments: planned, run here or on a cluster, collected."""
