"""Builds reports: one HTML page about runs that opens offline, with figures and tables as files."""
