"""Verifying the JSON Web Tokens that clients send: issuers' keys, reviews by the API server, and what was verified."""
