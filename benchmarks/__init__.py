"""Measurements of speed: each script prints one line of JSON."""

from babam_jax import cpu

cpu.configure()  # as the commands do
