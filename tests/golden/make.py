"""Make the golden files: for every case of `all_cases` its inputs, and what PyTorch's autograd makes of them.

    python3 -m pip install 'handgrad[parity]' && python3 tests/golden/make.py

writes `NAME.safetensors` beside this file, all values in float64 or int64: `inputs/`, `settings/` (0-d), `cotangents/`
(random, for the output), `outputs/`, `gradients/`. No output and no gradient is handgrad's own, so that the tests hold
it against PyTorch where PyTorch is not installed. To be run again when a case is new or has changed; with the same
PyTorch, on the same machine, the bytes are the same.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from handgrad.proof import all_cases
from handgrad.proof.against_torch import in_torch

FOLDER = Path(__file__).parent
SEED = 2


def main() -> None:
    torch.set_num_threads(1)  # the order of sums is not left to chance
    note = {"handgrad": f"values and gradients by torch {torch.__version__}, all_cases(seed={SEED})"}
    generator = np.random.default_rng(SEED)
    for name, case in all_cases(SEED).items():
        dy = np.asarray(generator.standard_normal(case.run()[0].shape))
        y, gradients = in_torch(case, name, dy)
        given = {key: np.asarray(value) for key, value in (case.integers | case.settings).items()}
        tensors = {
            **{f"inputs/{key}": value for key, value in [*case.inputs.items(), *given.items()] if value.ndim},
            **{f"settings/{key}": value for key, value in given.items() if not value.ndim},
            f"cotangents/{case.output}": dy,
            f"outputs/{case.output}": y,
            **{f"gradients/{key}": gradient for key, gradient in gradients.items()},
        }
        save_file({key: np.array(x, order="C") for key, x in tensors.items()}, FOLDER / f"{name}.safetensors", note)


if __name__ == "__main__":
    main()
