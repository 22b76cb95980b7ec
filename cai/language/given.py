"""What is given by hand to a model of language: a vocabulary, a table."""

from typing import Any

import torch
from torch import Tensor

from cai.errors import fault
from cai.language.vocabulary import Vocabulary


def require_vocabulary(where: str, vocabulary: Any) -> None:
    """Raise a ``WorldError`` where a vocabulary is none."""
    if not isinstance(vocabulary, Vocabulary):
        expected = "a cai.language.Vocabulary, such as cai.language.characters(text)"
        raise fault(f"{where}, vocabulary", f"a {type(vocabulary).__name__}", expected)


def require_table(where: str, table: Any, dims: int, *, whole: bool = False) -> None:
    """Raise a ``WorldError`` where a table is no tensor of so many dimensions, of real or of ``whole`` numbers."""
    kind = "whole numbers, torch.long" if whole else "real numbers"
    fits = isinstance(table, Tensor) and (table.dtype == torch.long if whole else table.is_floating_point())
    if not fits or table.dim() != dims:
        seen = (
            f"{table.dtype}, shape {tuple(table.shape)}" if isinstance(table, Tensor) else f"a {type(table).__name__}"
        )
        raise fault(where, seen, f"a tensor of {kind} with {dims} dimension{'s' * (dims > 1)}")
