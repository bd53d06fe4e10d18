"""The decision which repos a server serves, with which secrets, and why the others are refused."""
