"""Budgets and cached answers in Valkey or Redis, over one thin client."""
