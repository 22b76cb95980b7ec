"""Many copies of a world, or of a Gymnasium environment, stepped together."""
