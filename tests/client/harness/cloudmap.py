"""The 30 operations as methods that check every response strictly, and short helpers to create objects for tests."""

import itertools
import uuid

import pytest

from . import model
from .wire import Connection

_numbers = itertools.count(1)


def unique(prefix):
    """A name that no other test of this worker uses."""
    return f"{prefix}-{next(_numbers)}"


class Refused(Exception):
    """An error of the service: `code`, `message`, the HTTP `status`, and the whole body as `data`."""

    def __init__(self, operation, reply):
        self.reply, self.status, self.data = reply, reply.status, reply.data()
        self.code, self.message = reply.code, self.data.get("Message", "")
        super().__init__(f"{operation}: {self.status} {self.code}: {self.message}")


class CloudMap:
    """`cloudmap.GetNamespace(Id=...)` and the like; raises Refused."""

    def __init__(self, address, protocol="json"):
        self.connection = Connection(address)
        self.protocol = protocol

    def __getattr__(self, operation):
        if operation not in model.OPERATIONS:
            raise AttributeError(operation)
        return lambda **params: self.call(operation, params)

    def call(self, operation, params):
        reply = self.reply(operation, params)
        if reply.status != 200:
            raise Refused(operation, reply)
        return reply.data()

    def reply(self, operation, params):
        """The raw response, after the checks that every response has to pass."""
        reply = self.connection.call(self.protocol, operation, params)
        assert uuid.UUID(reply.headers["x-amzn-RequestId"])
        if self.protocol == "cbor":
            assert reply.headers["smithy-protocol"] == "rpc-v2-cbor"
            # Operations without output have no body, and a response without a body needs no content type.
            assert reply.headers["Content-Type"] == ("application/cbor" if reply.body else None)
        else:
            assert reply.headers["Content-Type"].startswith("application/x-amz-json-1.1")
        if reply.status == 200:
            model.check_output(operation, reply.data(), self.protocol)
        else:
            model.check_error(reply.code, reply.data(), self.protocol)
        return reply

    # -- creation -----------------------------------------------------------------------------------------------------

    def operation(self, operation_id):
        return self.GetOperation(OperationId=operation_id)["Operation"]

    def done(self, output):
        """The targets of an operation. Fails unless the operation succeeded."""
        operation = self.operation(output["OperationId"])
        assert operation["Status"] == "SUCCESS", operation
        return operation["Targets"]

    def private_namespace(self, name=None, soa_ttl=None, **more):
        """Creates a DNS_PRIVATE namespace; returns its id."""
        if soa_ttl is not None:
            more["Properties"] = {"DnsProperties": {"SOA": {"TTL": soa_ttl}}}
        name = name or f"{unique('private')}.local"
        return self.done(self.CreatePrivateDnsNamespace(Name=name, Vpc="vpc-12345678", **more))["NAMESPACE"]

    def public_namespace(self, name=None, **more):
        """Creates a DNS_PUBLIC namespace; returns its id."""
        name = name or f"{unique('public')}.example"
        return self.done(self.CreatePublicDnsNamespace(Name=name, **more))["NAMESPACE"]

    def http_namespace(self, name=None, **more):
        """Creates an HTTP namespace; returns its id."""
        return self.done(self.CreateHttpNamespace(Name=name or unique("http"), **more))["NAMESPACE"]

    def service(self, namespace, name=None, routing=None, custom_health=False, **records_and_more):
        """Creates a service, `A=60, SRV=60` being its records and their TTLs; returns its id."""
        records, more = split_records(records_and_more)
        if records:
            more["DnsConfig"] = {"DnsRecords": records} | ({"RoutingPolicy": routing} if routing else {})
        if custom_health:
            more["HealthCheckCustomConfig"] = {"FailureThreshold": 1}
        output = self.CreateService(Name=name or unique("service"), NamespaceId=namespace, **more)
        return output["Service"]["Id"]

    def instance(self, service, instance, ipv4=None, ipv6=None, port=None, cname=None, status=None, **attributes):
        """Registers an instance; returns its id."""
        known = {"AWS_INSTANCE_IPV4": ipv4, "AWS_INSTANCE_IPV6": ipv6, "AWS_INSTANCE_CNAME": cname,
                 "AWS_INSTANCE_PORT": None if port is None else str(port), "AWS_INIT_HEALTH_STATUS": status}
        attributes |= {key: value for key, value in known.items() if value is not None}
        self.done(self.RegisterInstance(ServiceId=service, InstanceId=instance, Attributes=attributes))
        return instance

    def instances(self, service, count):
        """Registers `count` instances `i-0`, `i-1`, ... at 10.1.0.0, 10.1.0.1, ...; returns their addresses."""
        addresses = [address(number) for number in range(count)]
        for number, ipv4 in enumerate(addresses):
            self.instance(service, f"i-{number}", ipv4=ipv4)
        return addresses

    def deregister(self, service, instance):
        self.done(self.DeregisterInstance(ServiceId=service, InstanceId=instance))

    def set_health(self, service, instance, status):
        self.UpdateInstanceCustomHealthStatus(ServiceId=service, InstanceId=instance, Status=status)

    def set_attribute(self, service, key, value):
        self.UpdateServiceAttributes(ServiceId=service, Attributes={key: value})

    # -- reading ------------------------------------------------------------------------------------------------------

    def health(self, service, **more):
        """Health status by instance id, from all pages."""
        found = {}
        for page in self.pages("GetInstancesHealthStatus", ServiceId=service, **more):
            found |= page.get("Status", {})
        return found

    def listed_instances(self, service):
        """Attributes by instance id, from all pages."""
        return {instance["Id"]: instance["Attributes"]
                for page in self.pages("ListInstances", ServiceId=service) for instance in page["Instances"]}

    def discovered(self, namespace, service, **more):
        """Health status by instance id."""
        found = self.DiscoverInstances(NamespaceName=namespace, ServiceName=service, **more)["Instances"]
        return {instance["InstanceId"]: instance["HealthStatus"] for instance in found}

    def discovered_addresses(self, namespace, service, **more):
        """The IPv4 addresses of the instances."""
        found = self.DiscoverInstances(NamespaceName=namespace, ServiceName=service, **more)["Instances"]
        return {instance["Attributes"]["AWS_INSTANCE_IPV4"] for instance in found}

    def revision(self, namespace, service):
        return self.DiscoverInstancesRevision(NamespaceName=namespace, ServiceName=service)["InstancesRevision"]

    def pages(self, operation, **params):
        """All pages of a list, up to the first one without a token."""
        token = {}
        while True:
            page = self.call(operation, {**params, **token})
            yield page
            if "NextToken" not in page:
                return
            token = {"NextToken": page["NextToken"]}


def split_records(arguments):
    """`A=60, Description="x"` -> the DnsRecords, and the rest."""
    types = ("A", "AAAA", "SRV", "CNAME")
    records = [{"Type": name, "TTL": ttl} for name, ttl in arguments.items() if name in types]
    return records, {name: value for name, value in arguments.items() if name not in types}


def address(number):
    return f"10.1.{number // 256}.{number % 256}"


def code_of(call, *arguments, **params):
    """Makes a call that has to be refused, and returns the error code."""
    with pytest.raises(Refused) as error:
        call(*arguments, **params)
    return error.value.code
