"""Language models: stepping through text with a cache, generating, and perplexity."""
