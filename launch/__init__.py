"""Command lines: thin, all logic lives in `babam_jax`."""
