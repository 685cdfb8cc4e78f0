"""What the shop costs: one command that starts what it needs, loads it and prints ratios."""
