"""The console in a real Chromium, over the real stack. A package, so that its fixtures end before other tests run:
Playwright holds an event loop while it is open."""
