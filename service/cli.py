"""The ``osa`` command. Exit codes: 0 done, 1 failed, 2 invalid arguments or settings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from osa.model.errors import ConfigError, OsaError
from osa.service.commands.command_parser import CommandParser, positive
from osa.service.commands.settings_options import add_settings, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as error:
        print(f"osa: {error}", file=sys.stderr)
        return 2
    except OsaError as error:
        print(f"osa: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Parser of all commands; no module imports torch before its command runs."""
    from osa.export import cli as export
    from osa.model.training import cli as training
    from osa.model.training.tokenizer import cli as tokenizer_cli
    from osa.service.bulk import cli as bulk
    from osa.service.commands import calibrate
    from osa.service.top import cli as top

    parser = CommandParser(prog="osa", description="Orthogonal Self-Attention encoders.")
    parser.add_argument("--version", action="version", version=version("osa-encoder"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve a model over HTTP")
    add_settings(serve, "model", "host", "port")
    serve.set_defaults(command=_serve)
    train = commands.add_parser("train", help="train an encoder from a TOML file")
    training.add_arguments(train)
    train.set_defaults(command=training.run)
    tokenizer = commands.add_parser("tokenizer", help="train a tokenizer, or convert one")
    tokenizer_cli.add_arguments(tokenizer)
    tokenizer.set_defaults(command=tokenizer_cli.run)
    exporter = commands.add_parser("export", help="make an artifact: ONNX, AOTInductor, program")
    export.add_export(exporter)
    exporter.set_defaults(command=export.run_export)
    verify = commands.add_parser("verify", help="check a model's hashes and vectors")
    export.add_directory(verify)
    verify.set_defaults(command=export.run_verify)
    inspect = commands.add_parser("inspect", help="print a description of a model")
    export.add_directory(inspect)
    inspect.set_defaults(command=export.run_inspect)
    embed = commands.add_parser("embed", help="embed files into a Parquet file")
    bulk.add_arguments(embed)
    embed.set_defaults(command=bulk.run)
    watch = commands.add_parser("top", help="watch a running server")
    top.add_arguments(watch)
    watch.set_defaults(command=top.run)
    config = commands.add_parser("config", help="print the settings that 'serve' would use")
    add_settings(config, "model", "host", "port")
    config.set_defaults(command=_config)
    calibrator = commands.add_parser("calibrate", help="measure the ranges of int8 vectors")
    calibrate.add_arguments(calibrator)
    calibrator.set_defaults(command=calibrate.run)
    key = commands.add_parser("key", help="make an API key, and its entry for the keys file")
    key.add_argument("name", help="owner of the key, for logs")
    key.add_argument("--tokens-per-minute", type=positive, metavar="N", help="quota")
    key.add_argument("--admin", action="store_true", help="allow the key to exchange models")
    key.set_defaults(command=_key)
    info = commands.add_parser("info", help="print versions, machine and kernel")
    info.set_defaults(command=_info)
    return parser


def _serve(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    from osa.service.commands.preflight import check_serving
    from osa.service.observability.logs import configure_logging
    from osa.service.server.uvicorn_server import bind, serve

    configure_logging(settings.log)
    check_serving(settings)
    with bind(settings.server) as listener:
        from osa.service.server.app import create_service

        serve(create_service(settings), settings, listener)
    return 0


def _config(options: argparse.Namespace) -> int:
    print(read_settings(options).model_dump_json(indent=2))
    return 0


def _key(options: argparse.Namespace) -> int:
    from osa.service.auth.api_keys import make_key

    secret, entry = make_key(options.name, options.tokens_per_minute, options.admin)
    print(f"# give this to {options.name}; it is not shown again: {secret}", file=sys.stderr)
    print(entry, end="")
    return 0


def _info(options: argparse.Namespace) -> int:
    import torch

    from osa.model import kernels

    facts = {
        "version": version("osa-encoder"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "kernel": {device: kernels.describe(device) for device in ("cpu", "cuda")},
    }
    print(json.dumps(facts, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
