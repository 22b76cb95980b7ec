"""Pictures: plots, the HTML report."""
