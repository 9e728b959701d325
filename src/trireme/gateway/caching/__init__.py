"""Caches of answers in front of the attempts: keys, stored forms, tiers, one call for equal questions."""
