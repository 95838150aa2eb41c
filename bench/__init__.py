"""Speed of the product as ratios to a floor that the same machine shows in the same run."""
