"""Services: valid and invalid requests of CreateService and UpdateService, in strict and in lenient validation."""

import pytest

from harness.cloudmap import code_of, unique

ACCOUNT = "000000000000"
A, AAAA, SRV, CNAME = ({"Type": name, "TTL": 60} for name in ("A", "AAAA", "SRV", "CNAME"))
HTTP_CHECK = {"Type": "HTTP", "ResourcePath": "/health", "FailureThreshold": 3}


@pytest.fixture(scope="module")
def strict_server(start_shared):
    return start_shared("--store", "memory", "--validation", "strict")


@pytest.fixture(params=["lenient", "strict"])
def cloudmap(request):
    """The API of a server, once for each validation mode."""
    name = {"lenient": "shared", "strict": "strict_server"}[request.param]
    return request.getfixturevalue(name).cloudmap()


@pytest.fixture
def strict(strict_server):
    return strict_server.cloudmap()


@pytest.fixture
def lenient(shared):
    return shared.cloudmap()


def create(cloudmap, namespace, **params):
    return cloudmap.CreateService(Name=unique("service"), NamespaceId=namespace, **params)["Service"]


def refused(cloudmap, namespace, **params):
    return code_of(cloudmap.CreateService, Name=unique("service"), NamespaceId=namespace, **params)


def dns_config(*records, **more):
    return {"DnsConfig": {"DnsRecords": list(records), **more}}


@pytest.mark.parametrize("records, routing", [
    ([A], "MULTIVALUE"), ([A], "WEIGHTED"), ([AAAA], "MULTIVALUE"), ([A, AAAA], "MULTIVALUE"), ([SRV], "MULTIVALUE"),
    ([A, SRV], "MULTIVALUE"), ([AAAA, SRV], "MULTIVALUE"), ([CNAME], "WEIGHTED"), ([SRV], "WEIGHTED")], ids=str)
def test_record_combinations_that_are_accepted(cloudmap, records, routing):
    created = create(cloudmap, cloudmap.private_namespace(), **dns_config(*records, RoutingPolicy=routing))
    assert (created["Type"], created["DnsConfig"]["RoutingPolicy"]) == ("DNS_HTTP", routing)
    by_type = {record["Type"]: record["TTL"] for record in created["DnsConfig"]["DnsRecords"]}
    assert by_type == {record["Type"]: 60 for record in records}


@pytest.mark.parametrize("records, more", [
    ([A, A], {}), ([A, CNAME], {}), ([SRV, CNAME], {"RoutingPolicy": "WEIGHTED"}),
    ([CNAME], {"RoutingPolicy": "MULTIVALUE"}), ([A, {"Type": "A", "TTL": 5}], {})], ids=str)
def test_other_record_combinations_are_invalid(cloudmap, records, more):
    assert refused(cloudmap, cloudmap.private_namespace(), **dns_config(*records, **more)) == "InvalidInput"


def test_aws_refuses_more_checks_in_strict_mode(strict):
    private, public = strict.private_namespace(), strict.public_namespace()
    a = dns_config(A)
    assert refused(strict, private, **a, HealthCheckConfig=HTTP_CHECK) == "InvalidInput"
    assert refused(strict, public, **dns_config(CNAME, RoutingPolicy="WEIGHTED"),
                   HealthCheckConfig=HTTP_CHECK) == "InvalidInput"
    assert refused(strict, public, **a, HealthCheckConfig={"Type": "TCP", "ResourcePath": "/"}) == "InvalidInput"
    assert refused(strict, public, **a, HealthCheckConfig=HTTP_CHECK, HealthCheckCustomConfig={}) == "InvalidInput"


def test_a_health_check_on_a_private_namespace_acts_as_custom_health_in_lenient_mode(shared, lenient):
    name = f"{unique('lenient')}.local"
    namespace = lenient.private_namespace(name)
    created = create(lenient, namespace, **dns_config(A), HealthCheckConfig=HTTP_CHECK)
    assert created["HealthCheckConfig"] == HTTP_CHECK
    lenient.instance(created["Id"], "a", ipv4="10.0.0.1", port=80)
    assert lenient.discovered(name, created["Name"]) == {"a": "HEALTHY"}
    lenient.set_health(created["Id"], "a", "UNHEALTHY")
    assert lenient.discovered(name, created["Name"], HealthStatus="ALL") == {"a": "UNHEALTHY"}
    shared.dig(f"{created['Name']}.{name}").assert_nodata()


def test_lenient_mode_warns_once_of_each_kind_of_request_that_aws_refuses(server):
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace()
    for _ in range(3):
        create(cloudmap, namespace, **dns_config(A), HealthCheckConfig=HTTP_CHECK)
    server.stop()
    warnings = [line for line, fields in server.log if '"WARN"' in line and "HealthCheckConfig" in line]
    assert len(warnings) == 1, "\n".join(warnings)


def test_a_health_check_config_on_a_public_namespace_is_kept(cloudmap):
    created = create(cloudmap, cloudmap.public_namespace(), **dns_config(A), HealthCheckConfig=HTTP_CHECK)
    assert created["HealthCheckConfig"] == HTTP_CHECK
    cloudmap.instance(created["Id"], "a", ipv4="10.0.0.1", port=80)
    assert cloudmap.health(created["Id"]) == {"a": "HEALTHY"}


@pytest.mark.parametrize("sent, echoed", [({}, {"FailureThreshold": 1}), ({"FailureThreshold": 4}, {"FailureThreshold": 4})],
                         ids=str)
def test_the_custom_threshold_is_echoed(cloudmap, sent, echoed):
    created = create(cloudmap, cloudmap.private_namespace(), **dns_config(A), HealthCheckCustomConfig=sent)
    assert created["HealthCheckCustomConfig"] == echoed


def test_the_namespace_may_be_in_the_dns_config_alone(cloudmap):
    namespace = cloudmap.private_namespace()
    created = cloudmap.CreateService(Name="backend", **dns_config(A, NamespaceId=namespace))["Service"]
    assert created["NamespaceId"] == created["DnsConfig"]["NamespaceId"] == namespace


def test_the_namespace_may_be_an_arn(cloudmap):
    namespace = cloudmap.private_namespace()
    arn = cloudmap.GetNamespace(Id=namespace)["Namespace"]["Arn"]
    created = cloudmap.CreateService(Name="backend", NamespaceId=arn, **dns_config(A))["Service"]
    assert created["NamespaceId"] == namespace
    assert cloudmap.GetService(Id=created["Arn"])["Service"]["Id"] == created["Id"]


def test_two_different_namespaces_are_invalid(cloudmap):
    one, other = cloudmap.private_namespace(), cloudmap.private_namespace()
    assert refused(cloudmap, one, **dns_config(A, NamespaceId=other)) == "InvalidInput"


def test_services_without_dns_are_of_type_http(cloudmap):
    private, http = cloudmap.private_namespace(), cloudmap.http_namespace()
    for created in (create(cloudmap, private, Type="HTTP"), create(cloudmap, private), create(cloudmap, http),
                    create(cloudmap, http, Type="HTTP")):
        assert (created["Type"], created["DnsConfig"]) == ("HTTP", {})


def test_a_name_may_be_used_again_in_another_namespace(cloudmap):
    one, other = cloudmap.private_namespace(), cloudmap.private_namespace()
    assert cloudmap.service(one, "backend", A=60) != cloudmap.service(other, "backend", A=60)


def test_names_of_http_services_are_case_sensitive(cloudmap):
    http = cloudmap.http_namespace()
    assert cloudmap.service(http, "Backend") != cloudmap.service(http, "backend")


def test_deletion_frees_the_name_and_keeps_the_id(cloudmap):
    namespace = cloudmap.private_namespace()
    service = cloudmap.service(namespace, "backend", A=60)
    cloudmap.set_attribute(service, "key", "value")
    cloudmap.DeleteService(Id=service)
    assert code_of(cloudmap.GetService, Id=service) == "ServiceNotFound"
    assert cloudmap.service(namespace, "backend", SRV=10) == service
    assert cloudmap.GetServiceAttributes(ServiceId=service)["ServiceAttributes"]["Attributes"] == {}


# -- UpdateService ----------------------------------------------------------------------------------------------------

def update(cloudmap, service, **change):
    return cloudmap.done(cloudmap.UpdateService(Id=service, Service=change))


def updated(cloudmap, service, **change):
    assert update(cloudmap, service, **change) == {"SERVICE": service}
    return cloudmap.GetService(Id=service)["Service"]


def test_updates_change_ttls_and_description(cloudmap):
    service = cloudmap.service(cloudmap.private_namespace(), A=60, SRV=60, custom_health=True, Description="old")
    records = [{"Type": "A", "TTL": 5}, {"Type": "SRV", "TTL": 0}]
    found = updated(cloudmap, service, Description="new", **dns_config(*records))
    assert found["Description"] == "new"
    assert found["DnsConfig"]["DnsRecords"] == records
    assert found["HealthCheckCustomConfig"] == {"FailureThreshold": 1}, "not touched by updates"


def test_records_left_out_of_an_update_are_removed(cloudmap):
    service = cloudmap.service(cloudmap.private_namespace(), A=60, SRV=60)
    assert updated(cloudmap, service, **dns_config(A))["DnsConfig"]["DnsRecords"] == [A]


def test_a_health_check_left_out_of_an_update_is_removed(cloudmap):
    created = create(cloudmap, cloudmap.public_namespace(), **dns_config(A), HealthCheckConfig=HTTP_CHECK)
    changed = HTTP_CHECK | {"ResourcePath": "/other"}
    found = updated(cloudmap, created["Id"], HealthCheckConfig=changed, **dns_config(A))
    assert found["HealthCheckConfig"] == changed
    assert "HealthCheckConfig" not in updated(cloudmap, created["Id"], **dns_config(A))


def test_an_update_without_records_keeps_them_in_lenient_mode_only(lenient, strict):
    for cloudmap, left in ((lenient, [A]), (strict, [])):
        service = cloudmap.service(cloudmap.private_namespace(), A=60)
        found = updated(cloudmap, service, Description="new")
        assert found["Description"] == "new"
        assert found["DnsConfig"].get("DnsRecords", []) == left


def test_record_types_cannot_be_changed(cloudmap):
    service = cloudmap.service(cloudmap.private_namespace(), A=60)
    for records in ([AAAA], [A, SRV]):
        assert code_of(cloudmap.UpdateService, Id=service, Service=dns_config(*records)) == "InvalidInput"
    assert cloudmap.GetService(Id=service)["Service"]["DnsConfig"]["DnsRecords"] == [A]


def test_the_type_of_a_health_check_is_changed_in_lenient_mode_only(lenient, strict):
    other = HTTP_CHECK | {"Type": "HTTPS"}
    for cloudmap, is_changed in ((lenient, True), (strict, False)):
        created = create(cloudmap, cloudmap.public_namespace(), **dns_config(A), HealthCheckConfig=HTTP_CHECK)
        change = {"HealthCheckConfig": other, **dns_config(A)}
        if is_changed:
            assert updated(cloudmap, created["Id"], **change)["HealthCheckConfig"] == other
        else:
            assert code_of(cloudmap.UpdateService, Id=created["Id"], Service=change) == "InvalidInput"
            assert cloudmap.GetService(Id=created["Id"])["Service"]["HealthCheckConfig"] == HTTP_CHECK


def test_services_of_http_namespaces_are_updated_in_lenient_mode_only(lenient, strict):
    service = create(lenient, lenient.http_namespace(), HealthCheckConfig=HTTP_CHECK)["Id"]
    found = updated(lenient, service, Description="new")
    assert (found["Description"], found["HealthCheckConfig"]) == ("new", HTTP_CHECK)
    found = updated(lenient, service, HealthCheckConfig={"Type": "TCP"}, **dns_config(A))
    assert (found["Description"], found["HealthCheckConfig"]["Type"], found["DnsConfig"]) == ("new", "TCP", {})
    service = strict.service(strict.http_namespace())
    assert code_of(strict.UpdateService, Id=service, Service={"Description": "new"}) == "InvalidInput"


# -- requests that other emulators accept -----------------------------------------------------------------------------

@pytest.mark.parametrize("more", [{}, {"Type": "HTTP"}], ids=str)
def test_a_dns_config_in_an_http_namespace_makes_no_records_in_lenient_mode(lenient, strict, more):
    namespace = lenient.http_namespace()
    for place in ({"NamespaceId": namespace}, {}):
        config = {"NamespaceId": namespace, "RoutingPolicy": "WEIGHTED", "DnsRecords": [{"Type": "SRV", "TTL": 0}]}
        created = lenient.CreateService(Name=unique("service"), DnsConfig=config, **place, **more)["Service"]
        assert (created["NamespaceId"], created["Type"], created["DnsConfig"]) == (namespace, "HTTP", {})
        lenient.done(lenient.RegisterInstance(ServiceId=created["Id"], InstanceId="i-1", Attributes={"a": "b"}))
    assert refused(strict, strict.http_namespace(), **dns_config(A), **more) == "InvalidInput"
    assert refused(lenient, lenient.private_namespace(), **dns_config(A), Type="HTTP") == "InvalidInput"


def test_names_outside_of_the_pattern_are_accepted_in_http_namespaces_in_lenient_mode(lenient, strict):
    name = unique("my service")
    http = unique("http")
    namespace = lenient.http_namespace(http)
    created = lenient.CreateService(Name=name, NamespaceId=namespace)["Service"]
    assert created["Name"] == name
    lenient.done(lenient.RegisterInstance(ServiceId=created["Id"], InstanceId="i-1", Attributes={}))
    assert set(lenient.discovered(http, name)) == {"i-1"}
    for cloudmap, place in ((strict, strict.http_namespace()), (lenient, lenient.private_namespace())):
        reply = cloudmap.reply("CreateService", {"Name": name, "NamespaceId": place})
        assert reply.code == "InvalidInput"
        assert reply.data()["Message"].startswith(
            f"1 validation error detected: Value '{name}' at 'name' failed to satisfy constraint: Member must satisfy "
            "regular expression pattern: ((?=^.{1,127}$)")
    for name in (" ", " a", "a ", "a\nb", "x" * 128, "\u00fc"):
        assert code_of(lenient.CreateService, Name=name, NamespaceId=namespace) == "InvalidInput"
