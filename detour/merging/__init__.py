"""Merging of encoders in weight space, and of the checkpoints of one run."""
