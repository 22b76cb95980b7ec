"""KL-regularised learning, exactly: where the KL goes, what its gradient is, and where on-policy learning ends."""
