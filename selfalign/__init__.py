"""What the scripts share. What each step of the paper does is in the scripts; each package says what belongs to it."""
