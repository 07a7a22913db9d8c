"""Speed, measured: each script prints one JSON line."""

from babam_jax import cpu

cpu.configure()  # as the commands do
