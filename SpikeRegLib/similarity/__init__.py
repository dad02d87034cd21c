"""How alike two images are, and what to compare them by."""
