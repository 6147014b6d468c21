"""The one exception that ends a job with words for its caller."""

from .failure import Failure


class JobError(Exception):
    """The job fails with this `failure`; `refresh_worker` asks the platform for a fresh worker."""

    def __init__(self, code: str, sentence: str, field: str | None = None, *, refresh_worker: bool = False) -> None:
        self.failure = Failure(code=code, sentence=sentence, field=field)
        self.refresh_worker = refresh_worker
        super().__init__(str(self.failure))

    @property
    def code(self) -> str:
        return self.failure.code

    @property
    def sentence(self) -> str:
        return self.failure.sentence

    @property
    def field(self) -> str | None:
        return self.failure.field
