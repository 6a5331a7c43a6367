"""The ``osa`` command.

Exit codes: 0 done, 1 failed, 2 invalid arguments or settings; those of shells where a signal ended
it (130, SIGINT) or nobody reads its output (141, SIGPIPE).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from osa.model.common.progress import say
from osa.model.common.scratch import no_temporary_directory
from osa.model.errors import ConfigError, OsaError
from osa.service.commands.command_parser import CommandParser, positive
from osa.service.commands.settings_options import add_settings, read_settings

Command = Callable[[argparse.Namespace], int]
STOPPED, UNREAD = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    command: Command = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("osa: stopped")
        return STOPPED
    except BrokenPipeError:  # the reader of the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except ConfigError as error:
        say(f"osa: {error}")
        return 2
    except OsaError as error:
        say(f"osa: {error}")
        return 1
    except FileNotFoundError as error:
        if "usable temporary directory" not in str(error):
            raise
        say(f"osa: {no_temporary_directory('this command', error)}")
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Parser of all commands; no module imports torch before its command runs."""
    from osa.export import cli as export
    from osa.model.conversion import cli as conversion
    from osa.model.download import cli as download
    from osa.model.training import cli as training
    from osa.model.training.tokenizer import cli as tokenizer
    from osa.service.bulk import cli as bulk
    from osa.service.commands import calibrate
    from osa.service.top import cli as top

    parser = CommandParser(prog="osa", description="Orthogonal Self-Attention encoders.")
    parser.add_argument("--version", action="version", version=version("osa-encoder"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, text: str, arguments: Callable[[CommandParser], None], command: Command
    ) -> None:
        made = commands.add_parser(name, help=text)
        arguments(made)
        made.set_defaults(command=command)

    add("serve", "serve a model over HTTP", _add_settings, _serve)
    add("train", "train an encoder from a TOML file", training.add_arguments, training.run)
    add(
        "convert",
        "make a softmax encoder linear in length",
        conversion.add_arguments,
        conversion.run,
    )
    add("tokenizer", "train a tokenizer, or convert one", tokenizer.add_arguments, tokenizer.run)
    add(
        "export",
        "make an artifact: ONNX, AOTInductor, program",
        export.add_export,
        export.run_export,
    )
    add("download", "fetch a model of the hub", download.add_arguments, download.run)
    add("verify", "check a model's hashes and vectors", export.add_directory, export.run_verify)
    add("inspect", "print a description of a model", export.add_directory, export.run_inspect)
    add("embed", "embed files into a Parquet file", bulk.add_arguments, bulk.run)
    add("top", "watch a running server", top.add_arguments, top.run)
    add("config", "print the settings that 'serve' would use", _add_settings, _config)
    add("calibrate", "measure the ranges of int8 vectors", calibrate.add_arguments, calibrate.run)
    add("key", "make an API key, and its entry for the keys file", _add_key, _key)
    add("info", "print versions, machine and kernel", lambda parser: None, _info)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "model", "host", "port")


def _add_key(key: argparse.ArgumentParser) -> None:
    key.add_argument("name", help="owner of the key, for logs")
    key.add_argument("--tokens-per-minute", type=positive, metavar="N", help="quota")
    key.add_argument(
        "--max-request-tokens", type=positive, metavar="N",
        help="largest request under the quota; by default the quota",
    )  # fmt: skip
    key.add_argument(
        "--weight", type=positive, metavar="N", default=1,
        help="share of the engine, relative to other keys (default: 1)",
    )  # fmt: skip
    key.add_argument("--admin", action="store_true", help="allow the key to exchange models")


def _serve(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    from osa.service.commands.preflight import prepare_serving
    from osa.service.observability.logs import configure_logging
    from osa.service.server.heap import keep_small
    from osa.service.server.uvicorn_server import bind, serve

    keep_small()
    configure_logging(settings.log)
    settings = prepare_serving(settings)
    with bind(settings.server) as listener:
        from osa.service.server.app import create_service

        serve(create_service(settings), settings, listener)
    return 0


def _config(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    tables = {name: settings.named(name) for name in settings.models}  # with what [model] adds
    print(settings.model_copy(update={"models": tables}).model_dump_json(indent=2))
    return 0


def _key(options: argparse.Namespace) -> int:
    from osa.service.auth.api_keys import make_key

    secret, entry = make_key(
        options.name,
        options.tokens_per_minute,
        options.admin,
        options.max_request_tokens,
        options.weight,
    )
    print(f"# give this to {options.name}; it is not shown again: {secret}", file=sys.stderr)
    print(entry, end="")
    return 0


def _info(options: argparse.Namespace) -> int:
    import torch

    from osa.model import kernels
    from osa.model.common.threads import threads
    from osa.model.kernels import native
    from osa.model.processor import has_fast_bfloat16

    facts = {
        "version": version("osa-encoder"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "threads_reason": threads().reason,
        "kernel": {device: kernels.describe(device) for device in ("cpu", "cuda")},
        "products": native.describe_products(),
        "dtype": "bfloat16" if has_fast_bfloat16("cpu") else "float32",
    }
    print(json.dumps(facts, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
