"""What metarl needs of the machine and of its user: files, processes, the console, user code."""
