"""The parts of a report about few-shot learners."""
