"""Commands that share the project and models: export, space and publish."""

import argparse
import os
from pathlib import Path


def space(args: argparse.Namespace) -> None:
    """Upload the app to a Space, or list what would be uploaded."""
    from ..store.space import upload

    address = upload(args.repository, not args.upload, args.private)
    print(address or f"`alitok space {args.repository} --upload` uploads them")


def publish(args: argparse.Namespace) -> None:
    """Write the public address into the files that show it."""
    from ..store.publish import publish

    if not publish(args.repository):
        print(f"every file shows {args.repository} already")


def export(args: argparse.Namespace) -> None:
    """Write a checkpoint into another folder, with its weights in another type."""
    import torch

    from ..files import check_folder
    from ..model import AliTok
    from ..store.find import checkpoint_folder
    from ..store.folder import PARTS, part_path, read_config
    from ..store.rows import wider

    check_folder("--out", args.out)
    out = Path(args.out)
    if os.path.lexists(out) and any(out.iterdir()):
        raise ValueError(f"--out is {args.out!r}, which is not empty; give a new folder")
    AliTok.from_pretrained(args.model, "cpu").save_pretrained(out, getattr(torch, args.dtype))
    sizes = []
    for folder in (checkpoint_folder(args.model), out):
        config = read_config(folder)
        paths = {part: part_path(folder, config, part) for part in PARTS if part in config["files"]}
        sizes.append(sum(path.stat().st_size for path in paths.values()) / 1e6)
    print(f"{args.model} in {out}: {sizes[1]:.1f} MB of weights, before {sizes[0]:.1f} MB")
    kept = [f"{part} {name}" for part, path in paths.items() if part != "encoder" for name in wider(path)]
    if args.dtype == "int8":
        print(f"In half precision: the encoder, what is no matrix{''.join(f', {name}' for name in kept)}")
