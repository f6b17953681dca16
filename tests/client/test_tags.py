"""Tags of namespaces and services, and service attributes."""

import pytest

from harness.cloudmap import code_of


@pytest.fixture
def cloudmap(shared, protocol):
    return shared.cloudmap(protocol)


def pairs(**values):
    return [{"Key": key, "Value": value} for key, value in values.items()]


def tags(cloudmap, arn):
    return {tag["Key"]: tag["Value"] for tag in cloudmap.ListTagsForResource(ResourceARN=arn)["Tags"]}


def namespace_arn(cloudmap, **more):
    return cloudmap.GetNamespace(Id=cloudmap.private_namespace(**more))["Namespace"]["Arn"]


def service_arn(cloudmap, **more):
    return cloudmap.GetService(Id=cloudmap.service(cloudmap.http_namespace(), **more))["Service"]["Arn"]


@pytest.mark.parametrize("resource", [namespace_arn, service_arn])
def test_tags_are_set_overwritten_and_removed(cloudmap, resource):
    arn = resource(cloudmap, Tags=pairs(team="core", stage="blue"))
    assert tags(cloudmap, arn) == {"team": "core", "stage": "blue"}
    cloudmap.TagResource(ResourceARN=arn, Tags=pairs(stage="green", cost=""))
    assert tags(cloudmap, arn) == {"team": "core", "stage": "green", "cost": ""}
    cloudmap.UntagResource(ResourceARN=arn, TagKeys=["team", "no-such-key"])
    assert tags(cloudmap, arn) == {"stage": "green", "cost": ""}


def test_keys_are_case_sensitive_and_may_be_any_text(cloudmap):
    arn = namespace_arn(cloudmap)
    sent = {"Team": "a", "team": "b", "k" * 128: "v" * 256, "größe": "ü b", "a:b/c=d+e": "-_.@"}
    cloudmap.TagResource(ResourceARN=arn, Tags=[{"Key": key, "Value": value} for key, value in sent.items()])
    assert tags(cloudmap, arn) == sent


def test_no_tags_are_an_empty_list(cloudmap):
    assert cloudmap.ListTagsForResource(ResourceARN=namespace_arn(cloudmap)) == {"Tags": []}


def test_fifty_tags_are_the_limit_also_over_several_requests(cloudmap):
    arn = service_arn(cloudmap, Tags=[{"Key": f"k{number}", "Value": ""} for number in range(50)])
    cloudmap.TagResource(ResourceARN=arn, Tags=pairs(k0="overwritten"))
    assert code_of(cloudmap.TagResource, ResourceARN=arn, Tags=pairs(more="x")) == "TooManyTagsException"
    assert tags(cloudmap, arn)["k0"] == "overwritten" and len(tags(cloudmap, arn)) == 50


def test_tags_are_deleted_with_their_resource(cloudmap):
    namespace = cloudmap.http_namespace(name := "tagged-once", Tags=pairs(a="b"))
    arn = cloudmap.GetNamespace(Id=namespace)["Namespace"]["Arn"]
    cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))
    assert code_of(cloudmap.ListTagsForResource, ResourceARN=arn) == "ResourceNotFoundException"
    assert cloudmap.http_namespace(name) == namespace
    assert tags(cloudmap, arn) == {}
    cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))


@pytest.mark.parametrize("arn", ["nonsense", "arn:aws:s3:::bucket",
                                 "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-aaaaaaaaaaaaaaaa"])
def test_tags_of_unknown_resources_are_not_found(cloudmap, arn):
    assert code_of(cloudmap.ListTagsForResource, ResourceARN=arn) in ("ResourceNotFoundException", "InvalidInput")


def test_tags_survive_a_restart(server):
    arn = namespace_arn(server.cloudmap(), Tags=pairs(a="b"))
    server.kill9()
    server.restart()
    assert tags(server.cloudmap(), arn) == {"a": "b"}


# -- service attributes -----------------------------------------------------------------------------------------------

def attributes(cloudmap, service):
    return cloudmap.GetServiceAttributes(ServiceId=service)["ServiceAttributes"]["Attributes"]


def test_service_attributes_are_merged_and_removed(cloudmap):
    service = cloudmap.service(cloudmap.http_namespace())
    assert attributes(cloudmap, service) == {}
    cloudmap.UpdateServiceAttributes(ServiceId=service, Attributes={"a": "1", "b": "2", "k" * 255: "v" * 1024})
    cloudmap.UpdateServiceAttributes(ServiceId=service, Attributes={"b": "3", "c": ""})
    cloudmap.DeleteServiceAttributes(ServiceId=service, Attributes=["k" * 255, "no-such-key"])
    assert attributes(cloudmap, service) == {"a": "1", "b": "3", "c": ""}


def test_thirty_service_attributes_are_the_limit(cloudmap):
    service = cloudmap.service(cloudmap.http_namespace())
    cloudmap.UpdateServiceAttributes(ServiceId=service, Attributes={f"k{number}": "x" for number in range(30)})
    cloudmap.UpdateServiceAttributes(ServiceId=service, Attributes={"k0": "overwritten"})
    assert code_of(cloudmap.UpdateServiceAttributes, ServiceId=service,
                   Attributes={"k1": "y", "more": "x"}) == "ServiceAttributesLimitExceededException"
    assert attributes(cloudmap, service)["k1"] == "x", "all or nothing"


def test_service_attributes_survive_a_restart(server):
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.http_namespace())
    cloudmap.set_attribute(service, "weight", "10")
    server.kill9()
    server.restart()
    assert attributes(server.cloudmap(), service) == {"weight": "10"}


@pytest.mark.parametrize("key, value", [("fail-open", "yes"), ("fail-open", "TRUE"), ("unknown", "hide")])
def test_settings_in_service_attributes_have_to_be_valid(cloudmap, key, value):
    service = cloudmap.service(cloudmap.private_namespace(), A=60, custom_health=True)
    assert code_of(cloudmap.UpdateServiceAttributes, ServiceId=service, Attributes={key: value}) == "InvalidInput"
