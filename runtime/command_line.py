"""The command line: ``attngraph batch job.toml``."""

import sys
from pathlib import Path

import click

from ..engine.errors import AttnGraphError

# What a command that cannot do what it was asked to ends with, as click's own errors do.
_REFUSED = 2
_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def attngraph() -> None:
    """Write any attention as an expression; run it natively, in memory or out of core."""


@attngraph.command("batch")
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--scheduler", help='"threads", "processes", or a scheduler\'s address, such as tcp://host:8786.')
@click.option("--resume/--no-resume", default=None, help="Go on with what is there (the default), or begin anew.")
def batch_command(job: Path, scheduler: str | None, resume: bool | None) -> None:
    """Run the batch that the file JOB describes, and say what was done.

    It goes on where it was stopped. JOB is TOML: function = "module:name", output = "out.zarr", a table [inputs];
    chunk, over, resume, scheduler, and tables [constants] and [config], if need be.
    """
    from .batch.job_file import run_job_file

    click.echo(run_job_file(job, scheduler, resume))


def main() -> None:
    """Run the command line; errors are a message and an exit code."""
    try:
        attngraph(prog_name="attngraph", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AttnGraphError as error:
        click.echo(f"attngraph: {_without_our_line(error)}", err=True)
        sys.exit(_REFUSED)
    except (click.Abort, KeyboardInterrupt):
        click.echo("attngraph: interrupted; the same command goes on from here", err=True)
        sys.exit(_INTERRUPTED)
    except Exception as error:  # the user's function may raise whatever it likes
        click.echo(f"attngraph: {type(error).__name__}: {error}", err=True)
        sys.exit(_REFUSED)


def _without_our_line(error: AttnGraphError) -> str:
    """Its message; where it was raised says something only if that is in the user's function."""
    is_ours = error.line is not None and Path(error.line[0]).resolve() == Path(__file__).resolve()
    return str(error).partition("\n  at ")[0] if is_ours else str(error)


if __name__ == "__main__":
    main()
