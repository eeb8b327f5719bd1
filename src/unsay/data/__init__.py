"""Training data: sources, splits, formats, written prompts, pictures of text, and the recipe that mixes them."""
