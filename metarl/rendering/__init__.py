"""`metarl render`: videos of an agent before and after it adapts."""
