"""Loggers: where metrics go. They write and never change what is trained."""
