"""What a GPU does: scoring from Parquet, training, cards without memory, and whether the numbers
are those of a CPU.

python tests/bench/gpu.py [--parts 480] [--results results.json]

Needs one NVIDIA GPU, `nvidia-ml-py` for the share of time it is busy, and some 16 GB of /dev/shm;
takes about 5 minutes with 16 cores. Everything is synthetic. Each result is printed, and written,
as soon as it is there.
"""

import argparse
import sys
from pathlib import Path


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--parts", type=int, default=480, help="of 2,560 segments to score; default %(default)s"
    )
    parser.add_argument("--results", help="file to write them to, too")
    parser.add_argument(
        "--folder", default="/dev/shm" if Path("/dev/shm").is_dir() else None, help="for material"
    )
    parser.add_argument("--only", nargs="*", default=["train", "card", "numbers", "full", "score"])
    parser.add_argument(
        "--quality-cpu",
        type=int,
        default=0,
        help="only train small models with so many seeds, on a CPU",
    )
    parser.add_argument(
        "--model", type=Path, help="file that keeps what was trained, for a run that does not train"
    )
    parser.add_argument("--cpu-epoch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--score-some", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    # Only now: processes that write parts import this module anew, and would take seconds for what
    # a measurement needs, as no process of the program does.
    from gpu_measure import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
