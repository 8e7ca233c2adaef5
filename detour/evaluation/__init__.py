"""Evaluation on labeled tasks: fine-tuning with plain transformers, probes, statistics over seeds, tables, figures."""
