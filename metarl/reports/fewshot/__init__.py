"""What a report shows of few-shot learners."""
