"""Draw pictures of scenes."""
