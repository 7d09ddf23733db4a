"""What the scripts share, and nothing that tells the story: datasets, the step runner, endpoints, prompts, Markdown."""
