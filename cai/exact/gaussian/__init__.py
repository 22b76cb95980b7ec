"""Linear-Gaussian systems under a rule."""
