"""Text: tokenizers that make ids of it."""
