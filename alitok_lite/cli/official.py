"""Commands around the official weights: convert and fidsamples."""

from __future__ import annotations

import argparse

from ..machine import DTYPES
from .values import given_settings


def convert(args: argparse.Namespace) -> None:
    from ..store.convert import convert

    print(convert(args.tokenizer, args.ar, args.out, DTYPES[args.dtype], args.force))


def fidsamples(args: argparse.Namespace) -> None:
    from ..measure.fid import Order, draw

    classes = () if args.classes is None else args.classes
    order = Order(args.pictures, args.batch, args.seed, classes, args.dtype, given_settings(args))
    if draw(args.model, args.out, order, args.device):
        print(f"{args.pictures:,} pictures in {args.out}")
