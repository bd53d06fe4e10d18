"""The command `pywharf operator`. It imports what it runs only when it runs, so that `pywharf --help` stays fast."""

from typing import Any

import click

from pywharf.cli.flags import CONTEXT, Command, environment_name, options_of
from pywharf.core.struct_errors import convert
from pywharf_operator.process.options import Options, checked

_HELP = """Make what PackageRepo and PackageServer objects describe, in a Kubernetes cluster.

It logs in with the kubeconfig that KUBECONFIG names, otherwise as its pod's ServiceAccount. One of --namespace and
--all-namespaces says what it looks after. It may be stopped or killed at any time: servers serve on, and the next start
goes on where it ended.

\b
Example:
  pywharf operator --namespace=pywharf --leader-elect
"""


def _run(**values: Any) -> None:
    options = checked(convert(values, Options, "pywharf operator"))
    from pywharf_operator.process.composition import operate  # noqa: PLC0415 - kopf and the API client are 100 MB

    click.get_current_context().exit(operate(options))


operator = Command(
    "operator",
    callback=_run,
    params=[
        click.Option(
            ["--namespace"],
            multiple=True,
            metavar="NAME",
            envvar=environment_name("namespace"),
            help="A namespace to look after; may be given several times, or as a list with commas.",
        ),
        *options_of(Options, leave_out={"namespace"}),
    ],
    context_settings=CONTEXT,
    help=_HELP,
)
