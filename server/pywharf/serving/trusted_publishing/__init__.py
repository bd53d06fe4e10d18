"""Trusted publishing: mint tokens for OIDC tokens that entries name, each of which counts once, and burn them."""
