"""Engines that run encoders, each behind the session port."""
