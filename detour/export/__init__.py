"""In from Hugging Face folders, out to Hugging Face folders."""
