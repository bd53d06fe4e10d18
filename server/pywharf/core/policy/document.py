"""Parse the text of a policy document, strictly. Pure."""

import msgspec

from pywharf.core.errors import InvalidConfigError
from pywharf.core.policy.model import PolicyDocument
from pywharf.core.struct_errors import convert

MAX_CHARACTERS = 32 * 1024 * 1024
"""Characters of a document; the largest one that the rules' own bounds allow has about half of that."""


def parse_document(text: str, source: str) -> PolicyDocument:
    """Parse a document. A field that this server does not know is an error: it may hold a rule.

    Raises InvalidConfigError: one sentence with `source`, the field and what is expected.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidConfigError(f"{source} is over {MAX_CHARACTERS} characters; withhold whole projects by patterns.")
    try:
        data = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidConfigError(f"{source} is no JSON: {error}.") from None
    return convert(data, PolicyDocument, source)
