"""Experience: playing episodes and trials, and the record of them."""
