"""Find secrets that are easy to guess or used twice. Pure, and no finding holds a secret or tells how long one is.

Anybody who may write one repo's Secret could guess those of others if the finding about a shared secret crossed
namespaces: write a guess, see whether the finding appears. So only repos of one namespace are compared with each other.
"""

import enum
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

MIN_CHARACTERS = 16
_MIN_BITS = 36.0
"""Of random hex digits of the shortest length one in a thousand is estimated at less, half at 51 or more."""
_WORDS = ("password", "passwort", "changeme", "pywharf", "secret", "qwerty", "letmein", "default", "welcome", "admin",
          "token", "write", "read", "test", "repo")  # fmt: skip
_MAX_JUDGED = 256
"""Characters of a secret that are judged; a longer one is at least as strong."""


class Weakness(enum.StrEnum):
    """What is wrong with a secret, from the worst to the least."""

    SAME_FOR_BOTH = "SameForBoth"
    """The read secret is the write secret, so every reader may publish."""
    SHORT = "Short"
    """It has fewer than 16 characters."""
    EASY = "Easy"
    """It is made of few different characters, a repetition, a sequence or well-known words."""
    SHARED = "Shared"
    """Another repo of the namespace has it, too."""


class RepoSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """One repo's secrets. Repos are compared with those of the same namespace."""

    namespace: str
    name: str
    read: str | None = None
    write: str | None = None

    def __repr__(self) -> str:
        """Leave out the secrets, so that no log or traceback can contain them."""
        return f"RepoSecrets({self.namespace}/{self.name})"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A weakness of one repo's secret."""

    namespace: str
    name: str
    weakness: Weakness
    which: str
    """`read`, `write`, or `read and write`."""
    others: tuple[str, ...] = ()
    """Of a shared secret the names of the other repos, sorted; all are of this namespace."""

    @property
    def message(self) -> str:
        """Return a sentence for the repo's owner, with the remedy."""
        match self.weakness:
            case Weakness.SAME_FOR_BOTH:
                return "The read secret is the write secret, so every reader may publish; give each its own."
            case Weakness.SHORT:
                return f"The {self.which} secret has fewer than {MIN_CHARACTERS} characters; use 32 random ones."
            case Weakness.EASY:
                return f"The {self.which} secret is easy to guess; use 32 random characters."
            case Weakness.SHARED:
                shown = ", ".join(self.others[:_MAX_OTHERS]) + (", …" if len(self.others) > _MAX_OTHERS else "")
                return f"The {self.which} secret is also one of {shown}; give each repo its own."


_MAX_OTHERS = 5


def weak_secrets(repos: Iterable[RepoSecrets]) -> Sequence[Finding]:
    """Return the findings about all these repos' secrets, in the order of the repos, the worst of each first.

    A missing or empty secret is no finding: it grants nothing.
    """
    repos = list(repos)
    users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for repo in repos:
        for secret in (repo.read, repo.write):
            if secret:
                users[repo.namespace, secret].add(repo.name)
    return [finding for repo in repos for finding in _findings(repo, users)]


def _findings(repo: RepoSecrets, users: defaultdict[tuple[str, str], set[str]]) -> list[Finding]:
    named = [("read", repo.read), ("write", repo.write)]
    secrets = [(which, secret) for which, secret in named if secret]
    found = []
    if len(secrets) > 1 and repo.read == repo.write:
        secrets = [("read and write", secrets[0][1])]
        found.append(_finding(repo, Weakness.SAME_FOR_BOTH, "read and write"))
    for which, secret in secrets:
        if len(secret) < MIN_CHARACTERS:
            found.append(_finding(repo, Weakness.SHORT, which))
        elif _bits(secret, repo.name) < _MIN_BITS:
            found.append(_finding(repo, Weakness.EASY, which))
    for which, secret in secrets:
        others = users[repo.namespace, secret] - {repo.name}
        if others:
            found.append(_finding(repo, Weakness.SHARED, which, tuple(sorted(others))))
    order = list(Weakness)
    return sorted(found, key=lambda finding: order.index(finding.weakness))


def _finding(repo: RepoSecrets, weakness: Weakness, which: str, others: tuple[str, ...] = ()) -> Finding:
    return Finding(namespace=repo.namespace, name=repo.name, weakness=weakness, which=which, others=others)


def _bits(secret: str, name: str) -> float:
    """Estimate how many bits a guesser lacks, from above: a secret that scores low is bad, one that scores high may be.

    Well-known words, the repo's name among them, count as one character each, repetitions once, and of a sequence such
    as `12345` or `aaaa` only the beginning counts.
    """
    text = secret[:_MAX_JUDGED].lower()
    for place, word in enumerate((name.lower(), *_WORDS)):
        if len(word) > 3:  # noqa: PLR2004 - shorter ones are in random texts, too
            text = text.replace(word, chr(0xE000 + place))  # characters of private use, which no secret has
    text = _without_repetition(text)
    steps = [ord(later) - ord(earlier) for earlier, later in itertools.pairwise(text)]
    same = sum(1 for before, step in itertools.pairwise(steps) if before == step and abs(step) <= 1)
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy * (len(text) - same)


def _without_repetition(text: str) -> str:
    """Return the shortest text of whose repetition the text is made."""
    # A text is a repetition where it occurs in its own double before the end.
    period = (text + text).find(text, 1)
    return text[:period]
