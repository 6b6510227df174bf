"""Few-shot learning from data sets: images, texts and curves, with the adapters that robots use."""
