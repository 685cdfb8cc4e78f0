"""The catalogue: products, variants, categories, and the stock of each variant."""
