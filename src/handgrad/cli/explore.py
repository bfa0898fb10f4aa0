"""handgrad explore: a page that shows a real backward pass."""

import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HandgradError, installing
from ..files import require_place
from ..training import PRESETS, newest_run
from . import complete
from .model import find_model, fresh_model
from .refuse import refuse, refuse_seed
from .terminal import plain_console


def explore(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete.models,
            help="A run's folder, or a Hugging Face folder; without one, the newest run in runs/, or a fresh model.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=complete.presets, help=f"A fresh model, reading bytes: {', '.join(PRESETS)}."
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The text to begin with, each of whose tokens is predicted from those before it; the page can change "
            "it. Without it, some of what the run held out.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the page as one file that opens with no server and no network, and exit."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of the server; without it, any that is free.")
    ] = None,
    browser: Annotated[bool | None, typer.Option(help="Open the page in a browser.  [default: browser]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides the weights of a fresh model.  [default: 0]")] = None,
) -> None:
    """See a forward and a backward pass of a model on a text, every number of it.

    A page for your browser: the dataflow with all that comes back along its edges; each tensor beside its cotangent;
    the formula, and the lines of source that computed it. Move a number, and see whether the loss follows; make a known
    mistake, and see how far it spreads. The page is served to this machine alone, at an address with a random token.
    Ctrl-C ends it.
    """
    if run is not None and preset is not None:
        raise HandgradError("give a RUN, or --preset NAME for a fresh model: one of the two")
    if html is not None:
        refuse({"--port": port}, "not with --html, which serves nothing")
        refuse({"--browser" if browser else "--no-browser": browser}, "not with --html, which opens nothing")
        require_place(html)
    try:
        from ..explorer import Explorer, Shelf, shelf_of, write_page
        from ..explorer.server import address_of, listen, new_token, server_of
    except ModuleNotFoundError as error:
        raise HandgradError(f"{error.name} is missing, which the explorer needs: {installing('explore')}") from None
    run = run or (None if preset else newest_run())
    if run is not None:
        refuse_seed(seed, run)
        shelf = shelf_of(*find_model(run))
    else:
        preset = preset or "default"
        argument = f"--preset {preset}" + (f" --seed {seed}" if seed else "")
        shelf = Shelf(f"a fresh model of the preset {preset}", fresh_model(preset, seed or 0), argument)
    console = plain_console(stderr=True)
    with console.status("a first pass") as status:
        explorer = Explorer(shelf, text)
        if html is not None:
            left_out = write_page(explorer, html, status.update)
            print(f"{html}: {html.stat().st_size / 1e6:,.1f} MB, {shelf.title}")
            if left_out:
                print(f"too large for the file, and left out: {', '.join(left_out)}")
            return
        explorer.answers["pass"]({"text": explorer.text}, lambda: None)  # a text that cannot be shown is told at once
    listener, token = listen(port or 0), new_token()
    address = address_of(listener, token)
    print(f"{shelf.title}\n{address}\nCtrl-C ends it", flush=True)
    if browser is not False:  # in a thread: some do not come back before they have the page
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
    with suppress(KeyboardInterrupt):  # which the server raises again, once all is put in order
        server_of(explorer, listener, token).run(sockets=[listener])
