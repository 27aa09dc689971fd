"""Instructions that become API calls, after Gorilla."""
