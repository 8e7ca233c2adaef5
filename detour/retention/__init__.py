"""What training on a domain gained there, and what it lost elsewhere."""
