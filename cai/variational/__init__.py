"""Variational policies: the ELBO of a policy, its gradient, and the fit that climbs it."""
