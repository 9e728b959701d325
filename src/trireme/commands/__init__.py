"""The commands of `trireme`: each adds its arguments and runs."""
