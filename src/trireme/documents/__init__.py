"""Files to text to passages. Knows no queue and no database."""
