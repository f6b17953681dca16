"""The README's walk-through with the real aws CLI and dig, and once more after kill -9."""

import shlex

import pytest

BACKEND = "backend.production.local"
TARGET = "web-1.backend.production.local."


@pytest.fixture
def walkthrough(server):
    """The walk-through, up to the registration of the instance."""
    aws = server.clients.aws
    operation = aws("create-private-dns-namespace --name production.local --vpc vpc-12345678")["OperationId"]
    done = aws(f"get-operation --operation-id {operation}")["Operation"]
    assert (done["Status"], done["Type"]) == ("SUCCESS", "CREATE_NAMESPACE")
    namespace = done["Targets"]["NAMESPACE"]
    dns_config = shlex.quote(f"NamespaceId={namespace},DnsRecords=[{{Type=A,TTL=60}},{{Type=SRV,TTL=60}}]")
    service = aws(f"create-service --name backend --namespace-id {namespace} --dns-config {dns_config} "
                  "--health-check-custom-config FailureThreshold=1")["Service"]["Id"]
    registration = aws(f"register-instance --service-id {service} --instance-id web-1 "
                       "--attributes AWS_INSTANCE_IPV4=10.0.0.11,AWS_INSTANCE_PORT=8080,stage=blue")["OperationId"]
    assert aws(f"get-operation --operation-id {registration}")["Operation"]["Status"] == "SUCCESS"
    return namespace, service


def assert_resolves(server):
    a = server.dig(BACKEND, "A")
    a.assert_positive("10.0.0.11")
    assert a.ttls() == {60}
    srv = server.dig(BACKEND, "SRV")
    srv.assert_positive(f"1 1 8080 {TARGET}")
    assert srv.ttls() == {60}
    assert srv.additional_data("A") == {(TARGET, "10.0.0.11")}


def test_names_resolve_and_unhealthy_instances_leave_dns_at_once(server, walkthrough):
    _, service = walkthrough
    aws = server.clients.aws
    assert_resolves(server)

    aws(f"update-instance-custom-health-status --service-id {service} --instance-id web-1 --status UNHEALTHY")
    for rrtype in ("A", "SRV"):
        gone = server.dig(BACKEND, rrtype)
        gone.assert_nodata("production.local.")
        assert gone.soa.ttl == 5

    everything = aws("discover-instances --namespace-name production.local --service-name backend --health-status ALL")
    assert everything["Instances"] == [{
        "InstanceId": "web-1", "NamespaceName": "production.local", "ServiceName": "backend",
        "HealthStatus": "UNHEALTHY",
        "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.11", "AWS_INSTANCE_PORT": "8080", "stage": "blue"}}]
    healthy = aws("discover-instances --namespace-name production.local --service-name backend")
    assert healthy["Instances"] == []


def test_a_killed_server_restarts_with_its_ids_instances_and_answers(server, walkthrough):
    namespace, service = walkthrough

    def everything():
        aws = server.clients.aws
        operations = aws("list-operations")["Operations"]
        return {
            "namespace": aws(f"get-namespace --id {namespace}")["Namespace"],
            "service": aws(f"get-service --id {service}")["Service"],
            "instance": aws(f"get-instance --service-id {service} --instance-id web-1")["Instance"],
            "health": aws(f"get-instances-health-status --service-id {service}")["Status"],
            "operations": sorted(operations, key=lambda operation: operation["Id"]),
            "revision": aws("discover-instances-revision --namespace-name production.local --service-name backend"),
        }

    before, serial = everything(), server.resolver.serial("production.local")
    assert before["health"] == {"web-1": "HEALTHY"}
    server.kill9()
    server.restart()
    assert everything() == before
    assert_resolves(server)
    assert server.resolver.serial("production.local") >= serial

    server.clients.aws(
        f"update-instance-custom-health-status --service-id {service} --instance-id web-1 --status UNHEALTHY")
    server.kill9()
    server.restart()
    server.dig(BACKEND, "A").assert_nodata("production.local.")
    assert everything()["health"] == {"web-1": "UNHEALTHY"}


def test_env_prepares_a_shell_for_aws_clients(server):
    environment = server.clients.environment()
    # The host name of the endpoint depends on the machine, and is tested in test_host_prefix.py.
    assert environment["AWS_ENDPOINT_URL_SERVICEDISCOVERY"].endswith(f":{server.api_address[1]}")
    assert environment["AWS_DISABLE_HOST_PREFIX_INJECTION"] == "true"
    assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == "us-east-1"
    assert environment["AWS_ACCESS_KEY_ID"] and environment["AWS_SECRET_ACCESS_KEY"]


def test_removing_everything_leaves_nothing(server, walkthrough):
    namespace, service = walkthrough
    aws = server.clients.aws
    busy = aws(f"delete-service --id {service}", check=False)
    assert "(ResourceInUse)" in busy.stderr
    aws(f"deregister-instance --service-id {service} --instance-id web-1")
    server.dig(BACKEND, "A").assert_nodata("production.local.")
    aws(f"delete-service --id {service}")
    server.dig(BACKEND, "A").assert_nxdomain("production.local.")
    aws(f"delete-namespace --id {namespace}")
    server.dig(BACKEND, "A").assert_refused()
    assert aws("list-namespaces")["Namespaces"] == []
    assert aws("list-services")["Services"] == []
