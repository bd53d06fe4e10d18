"""Use cases of an index, over the ports that backends implement."""
