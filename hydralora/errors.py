"""Errors a caller may want to catch by name. Each says what, where, and how to mend it."""


class UserError(ValueError):
    """Something the person at the keyboard can mend; its text is shown to them as it is."""


class CorpusError(UserError):
    """A file or a row that cannot become examples."""


class BaseModelError(UserError):
    """A base model that is missing, unsafe or of the wrong kind."""


class AdapterError(UserError):
    """An adapter setting, target or file that does not fit."""


class ContextError(UserError):
    """A text that does not fit the model's context beside its answer."""


class TrainingError(UserError):
    """Training that cannot start or cannot go on (no examples, NaN loss, out of memory)."""


class ResultError(UserError):
    """A stored result that is gone, damaged, or not what it must be."""


class DamagedError(UserError):
    """A file of an attempt, or what its result is about, cannot be read, which no later try would mend."""


class StoppedError(Exception):
    """The user asked for a stop and the work has ended cleanly; not a failure."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 300 characters, no full stop; its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
