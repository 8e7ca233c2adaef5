"""Callbacks: they observe and write, and never change what is trained."""
