"""Data sets for few-shot learning: images, texts and curves, drawn as episodes."""
