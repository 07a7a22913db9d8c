"""Measurements of speed: each script prints one line of JSON."""

from babam_jax import cpu, gpu

cpu.configure()  # as the commands do
gpu.configure()
