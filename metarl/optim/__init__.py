"""How weights move: the inner loop of adaptation, advantages, trust-region steps."""
