"""How the pocket VLM's own weights are made: synthetic pictures, and the steps that learn from them."""
