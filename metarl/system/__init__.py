"""Interface to the machine and the user: files, processes, the console, user code."""
