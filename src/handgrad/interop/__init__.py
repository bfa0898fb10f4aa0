"""Models of other programs: Hugging Face folders of GPT-2, Llama, Mistral and Qwen 2 and 3, in and out."""

from .folder import export, load

__all__ = ["export", "load"]
