"""handgrad generate: let a model write."""

from typing import Annotated, Any

import typer

from ..errors import TextError
from ..model import DEFAULT_TEMPERATURE, DEFAULT_TOKENS
from .model import RunFolder, load_model
from .refuse import refuse


def generate(
    run: RunFolder,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="The text to go on from; without it, the model begins one. Given several times, all are written side "
            "by side, and printed when the last one is done.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="The most tokens to write.")] = DEFAULT_TOKENS,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text; may be given several times. \\n is a line's end."),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(min=0, help="Below 1 safer, above 1 more varied; 0 always takes the most probable token."),
    ] = DEFAULT_TEMPERATURE,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw from the k most probable tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the fewest tokens whose probabilities add up to p, 0 < p <= 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed writes the same text.")] = None,
) -> None:
    """Continue a prompt with a trained model. The text, prompt included, goes to standard output as it is drawn."""
    if temperature == 0:
        refuse({"--top-k": top_k, "--top-p": top_p, "--seed": seed}, "not with --temperature 0, which draws nothing")
    model = load_model(run)
    sampling: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    sampling["stop"] = [text.replace("\\n", "\n") for text in stop or []]
    prompts = prompt or [""]
    try:
        if len(prompts) > 1:
            for each, text in zip(prompts, model.generate_batch(prompts, tokens, **sampling), strict=True):
                print(f"{each}{text}\n")
            return
        pieces = model.generate_stream(prompts[0], tokens, **sampling)
    except TextError as error:
        raise TextError(f"--prompt: {error}") from None
    print(prompts[0], end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
