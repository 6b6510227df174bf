"""Reports: runs as one page that opens offline, with figures and tables as files."""
