"""Unit tests for reinforcement learning: small worlds with exact answers, each made to catch one kind of mistake."""
