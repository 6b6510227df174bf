"""How fast environments step."""
