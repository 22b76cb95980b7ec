"""What every room may use: files, memory, the process, progress, work side by side."""
