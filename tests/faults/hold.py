"""Goes on with a run and stays in its first update: ``python hold.py FOLDER``, until it is killed."""

import sys
import time

import seqvae


def stay(event) -> None:
    if event["event"] == "train":
        print("training", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    seqvae.train(resume=sys.argv[1], observers=[stay])
