"""PURE. Supply-chain policies: what a repo may show and give out of its own and its upstream's files."""
