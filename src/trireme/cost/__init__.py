"""What answers cost: machines by the hour, providers by the token, and what of it is idle."""
