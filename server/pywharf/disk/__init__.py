"""Writing files durably, and what a full disk means."""
