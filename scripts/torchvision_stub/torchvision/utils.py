from torchvision._placeholder import placeholder as __getattr__  # noqa: F401
