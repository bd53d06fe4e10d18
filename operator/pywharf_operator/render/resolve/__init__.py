"""Which repos a server serves, with which secrets, and why others are refused."""
