"""One kind of registry for data sets, metrics, samplers and presets: the name is the word used in CLI and JSON."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from leadline.errors import LeadlineError, did_you_mean

T = TypeVar("T")


class UnknownName(LeadlineError, KeyError):
    """A name that nothing is registered under. A KeyError too, as of any Mapping: `get` gives its default."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


class Registry(Mapping[str, T], Generic[T]):
    """Names to things; a duplicate is refused, an unknown name is answered with the nearest known ones."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a thing under `name`. Raises LeadlineError when the name is taken."""

        def enter(thing: T) -> T:
            if name in self._entries:
                raise LeadlineError(f"{self.kind} {name!r} is registered already: choose another name")
            self._entries[name] = thing
            return thing

        return enter

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(f"unknown {self.kind} {name!r}: {did_you_mean(name, self._entries)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
