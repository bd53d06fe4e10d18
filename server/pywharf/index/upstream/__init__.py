"""The extra index: which projects are looked up there, how its pages are read, and their cache."""
