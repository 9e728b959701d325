"""What runs in a stub of tritonserver: one model class for each kind. Never imports the clients outside."""
