"""Variational policies: the ELBO, its estimators, and the fit."""
