"""What requests cost: bounds before an attempt, counting while it runs, settling after it."""
