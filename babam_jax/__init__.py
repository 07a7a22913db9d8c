"""Backdoor attacks on face recognition, and BA-BAM, in JAX and Flax."""
