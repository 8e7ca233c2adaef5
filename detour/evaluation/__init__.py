"""Evaluation on labelled tasks: fine-tuning with plain transformers, probes, statistics over seeds, tables, figures."""
