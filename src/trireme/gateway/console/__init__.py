"""The console: static files that speak to the gateway's own API. docs/console.md."""
