"""Proved bounds on worlds of factors that exact elimination refuses."""
