"""The policies that one repo applies now, with the newest advisories."""

from collections.abc import Callable

from pywharf.core.names import RepoName
from pywharf.core.policy.evaluation import RepoPolicies
from pywharf.index.advisories import CurrentAdvisories
from pywharf.index.enforcement import Enforcement
from pywharf.index.evaluations import SharedEvaluations


class PoliciesInForce:
    """One repo's enforcement, replaced in one step when policies or advisories change."""

    def __init__(
        self, repo: RepoName, advisories: CurrentAdvisories, clock: Callable[[], float], shared: SharedEvaluations
    ) -> None:
        self._repo = repo
        self._shared = shared
        self._advisories = advisories
        self.clock = clock
        self.enforcement: Enforcement | None = None
        """None: there are no policies. Its advisories may be old: see `current`."""
        self.pages: str = repo
        """What the keys of project pages begin with: pages made under other policies have other keys."""
        self.need_advisories = False
        """Whether `current` must be called before anything is shown."""

    def use(self, policies: RepoPolicies | None) -> None:
        """Apply these policies from now on; None: none. If they are the same object as before, nothing changes."""
        if not self.are(policies):
            self._use(None if policies is None else self._enforcement_of(policies))

    def are(self, policies: RepoPolicies | None) -> bool:
        """Return whether these policies are the ones applied."""
        return policies is (self.enforcement.policies if self.enforcement is not None else None)

    def current(self) -> Enforcement | None:
        """Return the enforcement with the newest advisories, or None without policies.

        Raises AdvisoriesNotLoadedError if a policy needs advisories and there are none yet.
        """
        enforcement = self.enforcement
        if enforcement is None or not self.need_advisories:
            return enforcement
        if self._advisories.required() is not enforcement.advisories:
            self._use(self._enforcement_of(enforcement.policies))
        return self.enforcement

    def _enforcement_of(self, policies: RepoPolicies) -> Enforcement:
        return Enforcement(self._repo, policies, self._advisories.current(), self.clock, self._shared)

    def _use(self, enforcement: Enforcement | None) -> None:
        if self.enforcement is not None:
            self.enforcement.is_over = True
        self.enforcement = enforcement
        self.pages = self._repo if enforcement is None else enforcement.pages
        self.need_advisories = enforcement is not None and enforcement.policies.blocks_malware
