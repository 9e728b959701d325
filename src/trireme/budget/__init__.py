"""Budgets: what may be spent, what is held for running attempts, what was spent, and at which prices."""
