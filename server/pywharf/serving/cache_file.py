"""Read the file of `--cache_config` with the secret that it names, once, when a server or a command starts."""

from pywharf.config.cache_config import CacheConfig, ObjectStoreCache, parse_cache_config
from pywharf.serving.config_files import read_text
from pywharf.serving.config_source import resolve_secret

FLAG = "--cache_config"


def read_cache_config(path: str) -> tuple[CacheConfig, str | None]:
    """Return the configuration and its secret in clear text, or None. Blocking; raises InvalidConfigError."""
    config = parse_cache_config(read_text(path, FLAG, {}), path)
    if not isinstance(config, ObjectStoreCache) or config.secret is None:
        return config, None
    return config, resolve_secret(config.secret, f"{path}: secret", {})
