"""Experiments as `ml_collections` config files."""
