"""Commands that share the project: space and publish."""

import argparse


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
