"""handgrad export: a model as a folder that transformers opens."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .. import interop
from .model import RunFolder, load_model


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder that is new or empty.")],
    dtype: Annotated[
        Literal["float64", "float32", "float16", "bfloat16"] | None,
        typer.Option(
            help="What to keep the weights in; those read from a 16-bit folder lose nothing in its own.  "
            "[default: that of the model]"
        ),
    ] = None,
) -> None:
    """Write a folder in Hugging Face's layout, which `transformers` opens.

    That is possible where one of its architectures has all parts of the model: GPT-2's (norm layer, feed_forward gelu,
    attention_bias all, learned positions), or Llama's, Mistral's, Qwen 2's or Qwen 3's (norm rms, feed_forward swiglu,
    rotary positions). Where none has, a line says what the nearest one has in its place.
    """
    model = load_model(run)
    architecture = interop.export(model, out, dtype)
    kept = dtype or model.parameters.flat.dtype
    print(
        f"{out}: {architecture}, {kept}. In Python:\n"
        f"  transformers.AutoModelForCausalLM.from_pretrained({str(out)!r})\n"
        f"  transformers.PreTrainedTokenizerFast.from_pretrained({str(out)!r})"
    )
