"""Stands in for torchvision, which Composer, streaming, and transformers import and text models never use.

The compiled part of torchvision fits one build of torch only; where no matching one can be had, this package lets those imports
pass. Every name in its modules is a placeholder that raises ImportError when it is called.
"""
