"""Analysis of exported Hugging Face folders: similarity of layers, weight change, transplants, curves over probe scores."""
