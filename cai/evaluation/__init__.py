"""What a policy gets, where every nat goes, and policies side by side."""
