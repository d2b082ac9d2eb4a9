"""Work that takes longer than an answer may: it runs beside the server, and is asked for again and again."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """One job at a time, in threads that do not keep the program from ending."""

    def __init__(self) -> None:
        self._turn, self._state = threading.Lock(), threading.Lock()
        self._begun: set[str] = set()
        self._done: dict[str, Result] = {}
        self._failed: dict[str, Exception] = {}

    def ask(self, name: str, work: Callable[[], Result]) -> Result | None:
        """The result of ``work``, or None while it is not there yet; the first question starts it.

        Raises what the work raised, once: the next question starts it again.
        """
        with self._state:
            if name in self._failed:
                self._begun.discard(name)
                raise self._failed.pop(name)
            if name in self._begun:
                return self._done.get(name)
            self._begun.add(name)
        threading.Thread(target=self._run, args=(name, work), daemon=True).start()
        return None

    def found(self, name: str) -> Result | None:
        """The result, if it is there; starts nothing."""
        return self._done.get(name)

    def _run(self, name: str, work: Callable[[], Result]) -> None:
        with self._turn:
            try:
                result = work()
            except Exception as error:
                with self._state:
                    self._failed[name] = error
            else:
                with self._state:
                    self._done[name] = result
