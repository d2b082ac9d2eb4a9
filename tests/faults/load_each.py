"""Loads model folders one after another, and tells of each what came of it: ``python load_each.py FOLDER FOLDER ...``.

The first folder is whole, and pays for the imports. Prints a JSON list with, for each of the others, the error's code
and text, the CPU time in seconds, and how far the peak of the memory rose in MB.
"""

import json
import resource
import sys
import time

import seqvae
from seqvae.errors import SeqVAEError


def peak_mb() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    whole, *folders = sys.argv[1:]
    seqvae.load(whole).sample(2)
    found = []
    for folder in folders:
        before, began, told = peak_mb(), time.process_time(), {"code": None, "what": None}
        try:
            seqvae.load(folder)
        except SeqVAEError as error:
            told = {"code": error.code, "what": error.what}
        found.append(told | {"cpu_s": time.process_time() - began, "rise_mb": peak_mb() - before})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
