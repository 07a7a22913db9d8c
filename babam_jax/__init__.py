"""Backdoor attacks on face recognition, and BA-BAM, in JAX and Flax."""

from babam_jax import cpu

cpu.configure()
