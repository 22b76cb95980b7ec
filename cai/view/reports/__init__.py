"""The report: one page for what any command found."""
