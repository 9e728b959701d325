"""The HTTP gateway: every client's wire format in front, keys and tenants, chains of providers behind."""
