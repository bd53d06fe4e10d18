"""The use cases of an index, built on the ports that backends implement."""
