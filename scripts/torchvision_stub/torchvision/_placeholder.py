"""What stands behind the names of the stub."""


class Placeholder:
    """A class or function whose use raises ImportError."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ImportError(f"torchvision's {type(self).__name__}: this is detour's stub; install torchvision itself")


def placeholder(name: str) -> type[Placeholder]:
    """A module's `__getattr__`: a placeholder for any public name."""
    if name.startswith("_"):
        raise AttributeError(name)
    return type(name, (Placeholder,), {})
