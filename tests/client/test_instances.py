"""Instances: registration and replacement, services by id or ARN, and ids of any legal form."""

import pytest

from harness.cloudmap import code_of, unique

ACCOUNT = "000000000000"


@pytest.fixture
def cloudmap(shared, protocol):
    return shared.cloudmap(protocol)


def attributes(cloudmap, service, instance):
    return cloudmap.GetInstance(ServiceId=service, InstanceId=instance)["Instance"]["Attributes"]


def test_registering_again_replaces_all_attributes(shared, cloudmap):
    name = f"{unique('again')}.local"
    service = cloudmap.service(cloudmap.private_namespace(name), "web", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1", stage="blue", zone="1")
    cloudmap.instance(service, "a", ipv4="10.0.0.2", stage="green")
    assert attributes(cloudmap, service, "a") == {"AWS_INSTANCE_IPV4": "10.0.0.2", "stage": "green"}
    assert cloudmap.GetService(Id=service)["Service"]["InstanceCount"] == 1
    shared.dig(f"web.{name}").assert_positive("10.0.0.2")


def test_the_creator_request_id_is_returned(cloudmap):
    service = cloudmap.service(cloudmap.http_namespace())
    for token in ("first", "second"):
        cloudmap.RegisterInstance(ServiceId=service, InstanceId="a", CreatorRequestId=token, Attributes={})
        assert cloudmap.GetInstance(ServiceId=service, InstanceId="a")["Instance"]["CreatorRequestId"] == token


def test_attributes_come_back_unchanged(cloudmap):
    service = cloudmap.service(cloudmap.http_namespace())
    sent = {
        "empty": "", "inner": "a b\tc", "!#$~": "~!@#", "k" * 255: "v" * 1024, "AWS_INSTANCE_ID": "i-1",
        "AWS_INIT_HEALTH_STATUS": "HEALTHY"}
    cloudmap.RegisterInstance(ServiceId=service, InstanceId="a", Attributes=sent)
    assert attributes(cloudmap, service, "a") == sent
    assert cloudmap.listed_instances(service) == {"a": sent}


@pytest.mark.parametrize("instance", ["a", "i" * 64, "10.0.0.1", "host:8080", "a/b", "a@b", "A-b_c", "x.y.z", "-", "."])
def test_ids_of_every_form(cloudmap, instance):
    service = cloudmap.service(cloudmap.http_namespace())
    cloudmap.instance(service, instance)
    assert cloudmap.GetInstance(ServiceId=service, InstanceId=instance)["Instance"]["Id"] == instance
    cloudmap.deregister(service, instance)
    assert cloudmap.listed_instances(service) == {}


def test_ids_are_case_sensitive(cloudmap):
    service = cloudmap.service(cloudmap.http_namespace())
    cloudmap.instance(service, "a", stage="lower")
    cloudmap.instance(service, "A", stage="upper")
    assert cloudmap.listed_instances(service) == {"a": {"stage": "lower"}, "A": {"stage": "upper"}}


def test_the_service_may_be_an_arn_everywhere(cloudmap):
    service = cloudmap.service(cloudmap.private_namespace(), A=60, custom_health=True)
    arn = cloudmap.GetService(Id=service)["Service"]["Arn"]
    cloudmap.instance(arn, "a", ipv4="10.0.0.1")
    cloudmap.set_health(arn, "a", "UNHEALTHY")
    cloudmap.set_attribute(arn, "key", "value")
    assert cloudmap.health(arn) == {"a": "UNHEALTHY"}
    assert cloudmap.listed_instances(arn) == cloudmap.listed_instances(service)
    assert attributes(cloudmap, arn, "a") == {"AWS_INSTANCE_IPV4": "10.0.0.1"}
    assert cloudmap.GetServiceAttributes(ServiceId=arn)["ServiceAttributes"]["Attributes"] == {"key": "value"}
    cloudmap.deregister(arn, "a")
    cloudmap.DeleteService(Id=arn)


@pytest.mark.parametrize("arn", [
    "arn:aws:servicediscovery:us-east-1:000000000000:namespace/{id}",
    "arn:aws:servicediscovery:us-east-1:000000000000:service/", "arn:aws:s3:::service/{id}", "{id}x", "x{id}"])
def test_malformed_arns_are_not_found(cloudmap, arn):
    service = cloudmap.service(cloudmap.http_namespace())
    assert code_of(cloudmap.GetService, Id=arn.format(id=service)) in ("ServiceNotFound", "InvalidInput")


def test_targets_name_the_instance(cloudmap):
    service = cloudmap.service(cloudmap.http_namespace())
    registration = cloudmap.RegisterInstance(ServiceId=service, InstanceId="a", Attributes={})
    assert cloudmap.done(registration)["INSTANCE"] == "a"
    assert cloudmap.done(registration).get("SERVICE", service) == service


def test_the_initial_status_applies_to_custom_health(cloudmap):
    service = cloudmap.service(cloudmap.http_namespace(), custom_health=True)
    cloudmap.instance(service, "default")
    cloudmap.instance(service, "up", status="HEALTHY")
    cloudmap.instance(service, "down", status="UNHEALTHY")
    assert cloudmap.health(service) == {"default": "HEALTHY", "up": "HEALTHY", "down": "UNHEALTHY"}
    assert attributes(cloudmap, service, "down") == {"AWS_INIT_HEALTH_STATUS": "UNHEALTHY"}


def test_health_survives_a_restart(server):
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.http_namespace(), custom_health=True)
    for instance in ("a", "b"):
        cloudmap.instance(service, instance)
    cloudmap.set_health(service, "b", "UNHEALTHY")
    server.kill9()
    server.restart()
    assert server.cloudmap().health(service) == {"a": "HEALTHY", "b": "UNHEALTHY"}


def test_a_memory_store_is_empty_after_a_restart(start):
    server = start("--store", "memory")
    server.cloudmap().http_namespace()
    server.restart()
    assert server.cloudmap().ListNamespaces()["Namespaces"] == []
    assert not any(path.is_file() for path in server.data.rglob("*")), "nothing was written"
