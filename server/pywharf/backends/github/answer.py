"""An answer of GitHub's API. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

_MESSAGE_CHARACTERS = 200


class Answer(msgspec.Struct, frozen=True):
    """An answer from GitHub."""

    status: int
    headers: Mapping[str, str]
    """The headers by name in lower case."""
    data: Any
    """The decoded JSON body; None if the body is empty."""

    @property
    def message(self) -> str:
        """The reason that GitHub gives for a refusal."""
        said = self.data.get("message") if isinstance(self.data, dict) else None
        return str(said or ", ".join(self._errors("message")))[:_MESSAGE_CHARACTERS]

    @property
    def codes(self) -> frozenset[str]:
        """The codes of invalid fields (status 422), such as `already_exists`."""
        return frozenset(self._errors("code"))

    @property
    def types(self) -> frozenset[str]:
        """The types of a GraphQL query's errors, such as `RATE_LIMITED`."""
        return frozenset(self._errors("type"))

    def _errors(self, field: str) -> list[str]:
        errors = self.data.get("errors") if isinstance(self.data, dict) else None
        found = errors if isinstance(errors, list) else []
        return [str(one[field]) for one in found if isinstance(one, dict) and field in one]


def decoded(text: str) -> Any:  # noqa: ANN401 - JSON
    """Decode the JSON body of an answer."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {"message": "its answer is no JSON"}
