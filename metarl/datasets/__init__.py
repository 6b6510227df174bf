"""Load data sets for few-shot learning (images, texts and curves) and draw episodes from them."""
