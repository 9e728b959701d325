"""Who may call what: keys of tenants, what a key is limited to, and the port of the store that keeps them."""
