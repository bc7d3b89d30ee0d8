"""Lists of whole numbers on the command line: ``1,8,32``."""

from __future__ import annotations

from rmeeto.errors import ConfigError


def whole_numbers(option: str, text: str, *, least: int) -> list[int]:
    """The numbers of a comma-separated list, each once, in order.

    Raises:
        ConfigError: one is not a whole number, or too small.
    """
    numbers: dict[int, None] = {}
    for part in text.split(","):
        try:
            number = int(part)
        except ValueError:
            number = least - 1
        if number < least:
            raise ConfigError(
                f"read {option} {text}",
                given=repr(part.strip()),
                why=f"it takes whole numbers from {least} on, separated by commas",
                fix=f"for instance {option} {least + 1},{least + 8}",
            )
        numbers[number] = None
    return list(numbers)
