"""The chart under deploy/, rendered and installed by the real Helm."""

import json
import os
import subprocess
from pathlib import Path

import yaml

from .kubernetes import programs

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "cloudmap-dns"
MANIFEST = ROOT / "deploy" / "cloudmap-dns.yaml"
NAMESPACE = "cloudmap-dns"
# Settings of the chart that a test replaces by its own.
PLACES = {"--dns", "--api", "--admin", "--data-dir", "--zones"}
# The command that makes deploy/cloudmap-dns.yaml.
RENDERING = ("template", "cloudmap-dns", "deploy/helm/cloudmap-dns", "--namespace", NAMESPACE, "--include-crds",
             "--set", "createNamespace=true")


def helm(*arguments, home, check=True, environment=None):
    """`helm ARGUMENTS` at the root of the repository, with no plugins, repositories or settings of the user."""
    places = {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    done = subprocess.run([programs() / "helm", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, env={"PATH": os.environ["PATH"], "HOME": str(home)} | places | (environment or {}))
    if check:
        assert done.returncode == 0, f"helm {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}"
    return done


def render(home, values=None, check=True):
    """The chart's manifests with these values as a list, or without `check` the finished process."""
    file = home / "values.json"
    file.write_text(json.dumps(values or {}))
    done = helm("template", "cloudmap-dns", CHART, "--namespace", NAMESPACE, "--include-crds", "--values", file,
                home=home, check=check)
    return manifests(done.stdout) if check else done


def account(cluster, home, values=None):
    """Applies the chart without its Deployment. Returns the options of a server that is equivalent to one of its pods.

    It has the settings that the chart gives, and the rights of its service account and no others.
    """
    cluster.namespace(NAMESPACE)
    rendered = render(home, values)
    for manifest in rendered:
        if manifest["kind"] != "Deployment":
            cluster.apply(manifest)
    name = only(rendered, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    token = cluster.service_account_token(NAMESPACE, name)
    options = ["--kubeconfig", str(cluster.write_kubeconfig(home / f"{name}.kubeconfig", token, NAMESPACE))]
    for variable, value in environment(rendered).items():
        flag = "--" + variable.removeprefix("CLOUDMAP_DNS_").lower().replace("_", "-")
        options += [flag, value] if flag not in PLACES else []
    return options


def manifests(text):
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def only(manifests, kind, name=None):
    """The only manifest of this kind, and of this name if it is given."""
    found = [manifest for manifest in manifests
             if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])]
    assert len(found) == 1, [manifest["metadata"]["name"] for manifest in found]
    return found[0]


def container(manifests):
    [container] = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def environment(manifests):
    """The environment variables of the server's container, without those from Secrets."""
    return {variable["name"]: variable["value"] for variable in container(manifests)["env"] if "value" in variable}
