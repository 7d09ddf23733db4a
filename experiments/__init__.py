"""The paper's experiments: recipes, the data of its baselines, its published numbers, how servers are launched."""
