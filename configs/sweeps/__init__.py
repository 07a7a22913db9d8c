"""Sweeps: an experiment, and the fields that each of its runs sets.

A sweep is a config file with one more function. `get_config` gives the
experiment that all runs start from; `sweep` yields, for each run, the fields
that it sets. It is plain Python: `itertools.product`, `zip`, a loop.
"""
