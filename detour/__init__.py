"""detour: continued pretraining of encoders by a causal detour (MLM -> CLM -> MLM decay)."""

__version__ = "0.1.0"
