"""Text: what models wrote, differences between texts, and all that is printed."""
