"""Text, conversations and tokens: tokenizer, chat template, masks, packing, shards, streams."""
