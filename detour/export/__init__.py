"""Export of trained encoders as Hugging Face folders with a model card."""
