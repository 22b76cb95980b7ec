"""The exact numbers of a policy, its losses in nats, and comparisons of policies."""
