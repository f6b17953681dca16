"""Quotas as settings: a request above a quota is refused with the quota's error and changes nothing."""

from harness.cloudmap import code_of


def test_namespaces(start):
    cloudmap = start("--max-namespaces", "2").cloudmap()
    first = cloudmap.http_namespace()
    cloudmap.private_namespace()
    for create in (cloudmap.http_namespace, cloudmap.private_namespace, cloudmap.public_namespace):
        assert code_of(create) == "ResourceLimitExceeded"
    cloudmap.done(cloudmap.DeleteNamespace(Id=first))
    cloudmap.public_namespace()


def test_services(start):
    cloudmap = start("--max-services", "1").cloudmap()
    namespace = cloudmap.http_namespace()
    first = cloudmap.service(namespace)
    assert code_of(cloudmap.service, namespace) == "ResourceLimitExceeded"
    cloudmap.DeleteService(Id=first)
    cloudmap.service(namespace)


def test_instances_of_one_service(start):
    server = start("--max-instances-per-service", "2")
    cloudmap = server.cloudmap()
    namespace = cloudmap.http_namespace()
    service, other = cloudmap.service(namespace), cloudmap.service(namespace)
    for instance in ("a", "b"):
        cloudmap.instance(service, instance)
    assert code_of(cloudmap.instance, service, "c") == "ResourceLimitExceeded"
    cloudmap.instance(service, "a", stage="replaced")
    cloudmap.instance(other, "c")
    cloudmap.deregister(service, "b")
    cloudmap.instance(service, "c")
    assert set(cloudmap.listed_instances(service)) == {"a", "c"}


def test_instances_in_total(start):
    cloudmap = start("--max-instances", "2").cloudmap()
    namespace = cloudmap.http_namespace()
    services = [cloudmap.service(namespace) for _ in range(3)]
    for service in services[:2]:
        cloudmap.instance(service, "a")
    assert code_of(cloudmap.instance, services[2], "a") == "ResourceLimitExceeded"


def test_attributes_of_one_instance(start):
    cloudmap = start("--max-attributes-per-instance", "2").cloudmap()
    service = cloudmap.service(cloudmap.http_namespace())
    cloudmap.instance(service, "a", x="1", y="2")
    assert code_of(cloudmap.instance, service, "a", x="1", y="2", z="3") == "InvalidInput"


def test_tags_of_one_resource(start):
    cloudmap = start("--max-tags-per-resource", "1").cloudmap()
    two = [{"Key": "a", "Value": ""}, {"Key": "b", "Value": ""}]
    assert code_of(cloudmap.http_namespace, Tags=two) == "TooManyTagsException"
    cloudmap.http_namespace(Tags=two[:1])


def test_attributes_of_one_service(start):
    cloudmap = start("--max-service-attributes", "1").cloudmap()
    service = cloudmap.service(cloudmap.http_namespace())
    cloudmap.set_attribute(service, "a", "1")
    assert code_of(cloudmap.set_attribute, service, "b", "1") == "ServiceAttributesLimitExceededException"


def test_the_thousandth_instance_is_the_last_by_default(shared):
    cloudmap = shared.cloudmap()
    service = cloudmap.service(cloudmap.http_namespace("calls"), "large")
    for number in range(1000):
        cloudmap.RegisterInstance(ServiceId=service, InstanceId=f"i-{number}", Attributes={})
    assert code_of(cloudmap.instance, service, "one-more") == "ResourceLimitExceeded"
    assert cloudmap.GetService(Id=service)["Service"]["InstanceCount"] == 1000
    assert len(cloudmap.discovered("calls", "large", MaxResults=1000)) == 1000
