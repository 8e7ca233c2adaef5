"""Composer callbacks, one per file."""
