"""Models from elsewhere: read into our decoder and tokenizer."""
