"""What a report shows of agents that act."""
