"""What is left out of answers under load, who is refused first, and how long a request may wait."""
