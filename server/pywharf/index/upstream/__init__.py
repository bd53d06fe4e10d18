"""The extra index: which projects are looked up there, its pages, and the cache of them."""
