"""deploy/monitoring: a running server exports what the dashboard and the alert rules name, and Prometheus' and Grafana's own
code accepts both."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from harness import kecs
from harness.cloudmap import code_of
from harness.deadline import eventually
from harness.documents import section
from harness.helm import ROOT, only, render
from harness.kecs import BACKEND
from harness.kubelet import Kubelet
from harness.kubernetes import defined_cluster

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana-dashboard.json"
ALERTS = MONITORING / "alerts.yaml"
ALERT_TESTS = MONITORING / "alerts-test.yaml"
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Series that Prometheus makes itself, and labels that it adds to every series of a target.
OF_PROMETHEUS = {"up": {}, "ALERTS": {"alertname": set(), "alertstate": {"pending", "firing"}, "severity": set()}}
TARGET_LABELS = {"job", "instance", "namespace"}
# Grafana replaces this variable by a duration, which the parser of expressions needs.
RATE_INTERVAL = "$__rate_interval"
SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? \S+$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
PLACE = "monitoring"


def program(name, *arguments, text=None):
    """Runs a program that tests/monitoring/build has built. Returns the finished process."""
    folder = os.environ.get("CLOUDMAP_DNS_TEST_MONITORING")
    assert folder, "CLOUDMAP_DNS_TEST_MONITORING is not set: run the tests through tests/run"
    return subprocess.run([Path(folder) / "bin" / name, *map(str, arguments)], input=text, capture_output=True, text=True,
                          timeout=120, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})


def accepted(done):
    assert done.returncode == 0, f"{done.args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# -- expressions ----------------------------------------------------------------------------------------------------------


def described(expressions):
    """What Prometheus' parser finds in expressions: selectors, groupings, and the labels of the result."""
    plain = [text.replace(RATE_INTERVAL, "5m") for text in expressions]
    return json.loads(accepted(program("inspect", "expressions", text=json.dumps(plain))))


def available(result, exported):
    """The labels of a vector."""
    of_metrics = {label for metric in result["metrics"] or () for label in exported.get(metric, ())}
    return TARGET_LABELS | of_metrics | set(result["labels"] or ())


def mistakes(expressions, exported):
    """What is wrong with expressions, given the exported metrics with their labels and the values of these."""
    found = []
    for text, parsed in zip(expressions, described(expressions), strict=True):
        if parsed["error"]:
            found.append(f"{text}: {parsed['error']}")
        for selector in parsed["selectors"] or ():
            metric = selector["metric"]
            if metric not in exported:
                found.append(f"{text}: no server exports {metric or 'a metric without a name'}")
                continue
            for matcher in selector["matchers"]:
                label, value = matcher["label"], matcher["value"]
                if label in TARGET_LABELS:
                    continue
                values = exported[metric].get(label)
                if values is None:
                    found.append(f"{text}: {metric} has no label {label}")
                elif values and matcher["operator"] in ("=", "!=") and value not in values:
                    found.append(f"{text}: {label} of {metric} is never {value}")
        for grouping in parsed["groupings"] or ():
            unknown = set(grouping["labels"] or ()) - available(grouping["of"], exported)
            found += [f"{text}: grouped by {label}, which is no label there" for label in sorted(unknown)]
    return found


def unknown_labels(texts, pattern, exported):
    """Labels that templates use and the results of their expressions lack. `texts` has pairs of expression and template."""
    results = described([expression for expression, _ in texts])
    return [f"{template}: {expression} has no label {label}"
            for (expression, template), parsed in zip(texts, results, strict=True)
            for label in re.findall(pattern, template) if label not in available(parsed["result"], exported)]


# -- the files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def panels(dashboard):
    """The panels without rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


# -- metrics of a server --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def exported(cluster, start_shared):
    """The metrics of a server that has everything turned on and has something of everything."""
    cluster.namespace(PLACE)
    cluster.apply(kecs.namespace())
    server = start_shared(
        "--kubeconfig", cluster.kubeconfig, "--store", "kubernetes", "--store-namespace", PLACE, "--mirror", "on",
        "--shadow", "on", "--coredns", "custom", "--coredns-forward", "127.0.0.1:53")
    (server.zones / "example.internal.zone").write_text(
        "$ORIGIN example.internal.\n@ 60 IN SOA ns hostmaster 1 2 3 4 5\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\n")
    server.reload()
    server.until_metric("kubernetes_leader", 1)
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace("monitoring.local")
    web = cloudmap.service(namespace, "web", A=60)
    cloudmap.instance(web, "one", ipv4="192.0.2.2")
    Kubelet(cluster).create(BACKEND.pod(BACKEND.registry(web)), "10.42.9.1")
    server.dig("web.monitoring.local")
    server.dig("example.org")
    assert code_of(cloudmap.GetService, Id="srv-0000000000000000") == "ServiceNotFound"
    # A server error: an object that somebody applied has the name that a new service needs.
    taken = cloudmap.service(namespace, "taken")
    cloudmap.DeleteService(Id=taken)
    cluster.apply({"apiVersion": "cloudmap-dns.io/v1alpha1", "kind": "CloudMapService",
                   "metadata": {"name": taken, "namespace": PLACE}, "spec": {"name": "other", "namespaceId": namespace}})
    eventually(lambda: "other" in [service["Name"] for service in cloudmap.ListServices()["Services"]])
    assert code_of(cloudmap.service, namespace, "taken") == "InternalFailure"

    def check():
        found = metrics(server.page("/metrics"))
        # They appear some time after the start, or after a write.
        assert found["cloudmap_dns_kubernetes_store_lag_seconds"], found
        assert found["cloudmap_dns_zone_file_ok"], found
        assert "cloudmap_dns_kubernetes_last_event_age_seconds" in found
        return found
    return OF_PROMETHEUS | eventually(check)


def metrics(page):
    """The metrics of a scrape: each has its labels, and each label its values."""
    found = {}
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found.update({name + part: {} for part in parts})
    for line in page.splitlines():
        if sample := SAMPLE.fullmatch(line):
            for label, value in LABEL.findall(sample[2] or ""):
                found[sample[1]].setdefault(label, set()).add(value)
    return found


# -- tests ----------------------------------------------------------------------------------------------------------------


def test_a_server_exports_every_metric_and_label_of_the_dashboard(dashboard, panels, exported):
    targets = [target for panel in panels for target in panel["targets"]]
    assert mistakes([target["expr"] for target in targets], exported) == []
    legends = [(target["expr"], target["legendFormat"]) for target in targets]
    assert unknown_labels(legends, r"\{\{(\w+)\}\}", exported) == []
    queries = [re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
               for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    assert mistakes([query[1] for query in queries], exported) == []
    assert {query[2] for query in queries} == {"job", "instance"}


def test_a_server_exports_every_metric_and_label_of_the_alerts(rules, exported):
    assert mistakes([rule["expr"] for rule in rules], exported) == []
    templates = [(rule["expr"], text) for rule in rules for text in rule["annotations"].values()]
    assert unknown_labels(templates, r"\$labels\.(\w+)", exported) == []


# Metrics for the tests of the checks themselves.
FEW = OF_PROMETHEUS | {"cloudmap_dns_ready": {}, "cloudmap_dns_dns_queries_total": {"transport": {"udp", "tcp"}},
                       "cloudmap_dns_dns_responses_total": {"rcode": {"NOERROR"}}, "cloudmap_dns_zone_file_ok": {"zone": set()},
                       "cloudmap_dns_api_requests_total": {"operation": {"GetService"}, "outcome": {"ok"}}}


@pytest.mark.parametrize("expression, words", [
    ("rate(cloudmap_dns_dns_query_total[5m])", "no server exports cloudmap_dns_dns_query_total"),
    ("sum(rate(cloudmap_dns_dns_queries[$__rate_interval])) > 1", "no server exports cloudmap_dns_dns_queries"),
    ("up == 1 and cloudmap_dns_redy", "no server exports cloudmap_dns_redy"),
    ('{job="cloudmap-dns"}', "no server exports a metric without a name"),
    ('cloudmap_dns_dns_responses_total{code="NOERROR"}', "has no label code"),
    ('cloudmap_dns_api_requests_total{outcome="error"}', "outcome of cloudmap_dns_api_requests_total is never error"),
    ("sum by (operation) (cloudmap_dns_dns_responses_total)", "grouped by operation"),
    ("sum by (rcode) (sum by (job) (cloudmap_dns_dns_responses_total))", "grouped by rcode"),
    ("cloudmap_dns_ready and on (zone) cloudmap_dns_zone_file_ok", "grouped by zone"),
    ("rate(cloudmap_dns_dns_queries_total)", "expected type range vector"),
])
def test_a_wrong_expression_is_found(expression, words):
    right = 'sum by (job, rcode) (rate(cloudmap_dns_dns_responses_total{rcode="NOERROR", job=~"$job"}[$__rate_interval]))'
    [mistake] = mistakes([right, expression], FEW)
    assert words in mistake


def test_a_wrong_label_of_a_legend_is_found():
    texts = [("sum by (rcode) (cloudmap_dns_dns_responses_total)", "{{rcode}} {{transport}}")]
    [mistake] = unknown_labels(texts, r"\{\{(\w+)\}\}", FEW)
    assert "has no label transport" in mistake


def test_promtool_accepts_the_alerts_and_their_unit_tests_pass():
    accepted(program("promtool", "check", "rules", "--lint=all", "--lint-fatal", ALERTS))
    accepted(program("promtool", "test", "rules", ALERT_TESTS))


def test_every_alert_has_a_unit_test_that_fails_without_it(tmp_path, rules):
    other = {"groups": [{"name": "other", "rules": [{"alert": "Other", "expr": "vector(0) > 1"}]}]}
    (tmp_path / ALERTS.name).write_text(json.dumps(other))
    (tmp_path / ALERT_TESTS.name).write_text(ALERT_TESTS.read_text())
    done = program("promtool", "test", "rules", tmp_path / ALERT_TESTS.name)
    assert done.returncode != 0
    missed = re.findall(r'exp: .*alertname="(\w+)"', done.stdout + done.stderr)
    assert set(missed) == {rule["alert"] for rule in rules}


def test_every_unit_test_has_a_time_without_alerts():
    for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"]:
        assert any("exp_samples" not in case for case in test["promql_expr_test"]), test["name"]


def test_every_alert_says_how_bad_it_is_and_what_to_do(rules):
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["alert"].startswith("CloudmapDns"), "the dashboard counts alerts by this beginning"
        assert rule["for"] and rule["labels"]["severity"] in ("critical", "warning"), rule
        assert set(rule["annotations"]) == {"summary", "description"}
        assert len(rule["annotations"]["summary"]) < 120 and len(rule["annotations"]["description"]) > 80, rule


def test_every_metric_that_the_documents_call_worth_an_alert_has_one(rules):
    rows = [row for row in section("operating.md", "Metrics").splitlines() if row.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(cloudmap_dns_\w+)`", row.split(" | ")[0])}
    assert documented
    selectors = [selector for parsed in described([rule["expr"] for rule in rules]) for selector in parsed["selectors"]]
    assert documented <= {selector["metric"] for selector in selectors}


def test_grafanas_schema_has_every_field_of_the_dashboard(dashboard, tmp_path):
    accepted(program("inspect", "dashboard", DASHBOARD))
    panel = next(panel for panel in dashboard["panels"] if panel["type"] == "timeseries")
    for part in (dashboard, panel, panel["options"], panel["fieldConfig"]["defaults"]["custom"], panel["targets"][0]):
        part["unheardOf"] = True
        (tmp_path / "wrong.json").write_text(json.dumps(dashboard))
        done = program("inspect", "dashboard", tmp_path / "wrong.json")
        assert done.returncode != 0 and "unheardOf" in done.stderr, done
        del part["unheardOf"]


def test_the_dashboard_works_with_any_data_source(dashboard, panels):
    assert dashboard["uid"] == "cloudmap-dns" and dashboard["schemaVersion"] >= 39 and "id" not in dashboard
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "job", "instance"]
    sources = [variable["datasource"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    sources += [part["datasource"] for panel in panels for part in (panel, *panel["targets"])]
    assert all(source == DATA_SOURCE for source in sources)
    # No other place may have a data source.
    assert DASHBOARD.read_text().count('"datasource": {') == len(sources)


def test_every_panel_of_the_dashboard_has_a_place_and_queries(dashboard, panels):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [(x, y) for panel in dashboard["panels"] for place in [panel["gridPos"]]
             for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert all(x < 24 for x, _ in cells)
    for panel in panels:
        assert panel["title"] and panel["targets"], panel
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names), panel["title"]
        for target in panel["targets"]:
            of_servers = "ALERTS" not in target["expr"]
            assert not of_servers or {"$job", "$instance"} <= set(re.findall(r"\$\w+", target["expr"])), target


def test_the_chart_installs_the_alerts_if_it_is_told_to(tmp_path):
    assert not [manifest for manifest in render(tmp_path) if manifest["kind"] == "PrometheusRule"]
    rendered = render(tmp_path, {"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}})
    rule = only(rendered, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
