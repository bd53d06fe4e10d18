"""The operator runs as a user without a name, though kopf would look the name up."""

import shutil

from support.any_user import HOME, as_any_user, group_folder
from support.cluster.resources import apply, path, repo, secret_of, server, wait_for_condition
from support.operator.operating import grant, operating
from support.server.serving import PYWHARF


def test_it_works_for_a_user_without_a_name(cluster, kube, namespace):
    program = as_any_user(PYWHARF)
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with group_folder() as folder:
        authority = folder / "ca.crt"
        shutil.copy(cluster.ca_file, authority)
        text = grant(cluster, namespace).read_text().replace(str(cluster.ca_file), str(authority))
        config = folder / "kubeconfig"
        config.write_text(text)
        config.chmod(0o640)
        authority.chmod(0o640)
        with operating(folder, config, namespace, env=HOME, program=program):
            wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Accepted", "True")
