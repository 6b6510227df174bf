"""`metarl bench`: measure how fast environments step."""
