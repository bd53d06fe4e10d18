"""What a copy needs in a test."""


class Quiet:
    """A progress that nobody sees."""

    def scanning(self, files: int, what: str) -> None:
        pass

    def begin(self, files: int) -> None:
        pass

    def copied(self) -> None:
        pass
