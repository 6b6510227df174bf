"""The parts of a report about acting agents."""
