"""kill -9 at random moments under write load: acknowledged changes survive, and others are either whole or absent."""

import http.client
import itertools
import random
import threading

from harness.cloudmap import CloudMap
from harness.wire import Connection

CYCLES = 100
WRITERS = 8
INSTANCES = 8
SEED = 20261120
GONE = None


class Writer(threading.Thread):
    """Changes a service of its own until the server is killed, one request at a time.

    `known` has the acknowledged value of every key, and `doubtful` the one change that was sent and not answered.
    Keys: ("instance", id) -> (attributes' number, status) and ("service", name) -> id.
    """

    def __init__(self, number, address, world, killer):
        super().__init__(daemon=True)
        self.number, self.world, self.killer = number, world, killer
        self.connection = Connection(address)
        self.random = random.Random(f"{SEED}-{number}-{world.cycle}")
        self.known = world.known[number]
        self.doubtful = None
        self.refused, self.acknowledged = None, 0

    def run(self):
        while self.refused is None and not self.killer.dead.is_set():
            change = self.random.choices(
                (self.register, self.deregister, self.flip, self.create, self.delete), (8, 3, 6, 2, 1))[0]
            sent = change()
            if sent is None:
                continue
            operation, params, key, value = sent
            try:
                reply = self.connection.call_once(operation, params)
            except (OSError, http.client.HTTPException):
                self.doubtful = (key, value)
                return
            if reply.status != 200:
                self.refused = (operation, params, reply.body)
                return
            self.acknowledge(operation, key, value, reply)
            self.acknowledged += 1

    def acknowledge(self, operation, key, value, reply):
        if operation == "CreateService":
            value = reply.data()["Service"]["Id"]
        self.known.pop(key, None)
        if value is not GONE:
            self.known[key] = value

    def service(self):
        return self.world.services[self.number]

    def instance(self, wanted):
        """The id of an instance that is known to exist, or of any instance if `wanted` is false."""
        ids = [f"i-{number}" for number in range(INSTANCES)]
        there = [name for name in ids if ("instance", name) in self.known]
        return self.random.choice(there if wanted else ids) if (there or not wanted) else None

    def register(self):
        instance, number = self.instance(False), next(self.world.numbers)
        params = {"ServiceId": self.service(), "InstanceId": instance, "Attributes": attributes(number)}
        return "RegisterInstance", params, ("instance", instance), (number, "HEALTHY")

    def deregister(self):
        if (instance := self.instance(True)) is None:
            return None
        return "DeregisterInstance", {"ServiceId": self.service(), "InstanceId": instance}, ("instance", instance), GONE

    def flip(self):
        if (instance := self.instance(True)) is None:
            return None
        number, status = self.known["instance", instance]
        status = {"HEALTHY": "UNHEALTHY", "UNHEALTHY": "HEALTHY"}[status]
        params = {"ServiceId": self.service(), "InstanceId": instance, "Status": status}
        return "UpdateInstanceCustomHealthStatus", params, ("instance", instance), (number, status)

    def create(self):
        name = f"made-{self.number}-{self.random.randrange(5)}"
        if ("service", name) in self.known:
            return None
        params = {"Name": name, "NamespaceId": self.world.namespace, "CreatorRequestId": f"{next(self.world.numbers)}",
                  "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 5}]}}
        return "CreateService", params, ("service", name), self.world.id_of(name)

    def delete(self):
        made = [key for key in self.known if key[0] == "service"]
        if not made:
            return None
        key = self.random.choice(made)
        return "DeleteService", {"Id": self.known[key]}, key, GONE


def attributes(number):
    return {"AWS_INSTANCE_IPV4": address(number), "AWS_INIT_HEALTH_STATUS": "HEALTHY", "number": str(number)}


def address(number):
    return f"10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"


class Killer:
    """Kills the server after a time."""

    def __init__(self, server, seconds):
        self.server, self.dead = server, threading.Event()
        self.timer = threading.Timer(seconds, self._kill)
        self.timer.start()

    def _kill(self):
        self.server.process.kill()
        self.dead.set()


class World:
    """The acknowledgements that the writers got, compared with the server's answers after a restart."""

    def __init__(self, server):
        self.server, self.cycle, self.numbers = server, 0, itertools.count(1)
        cloudmap = server.cloudmap()
        self.namespace = cloudmap.private_namespace("production.local")
        self.services = [cloudmap.service(self.namespace, f"own-{number}", A=5, custom_health=True)
                         for number in range(WRITERS)]
        self.known = [{} for _ in range(WRITERS)]
        self.ids = {}
        self.serial, self.revisions = 0, [0] * WRITERS

    def id_of(self, name):
        """The last known id of a service of this name."""
        return self.ids.get(name, "unknown")

    def cycle_once(self, seconds):
        """Writes until the server is killed, restarts and checks it. Returns the number of acknowledged changes."""
        self.cycle += 1
        killer = Killer(self.server, seconds)
        writers = [Writer(number, self.server.api_address, self, killer) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
            assert not writer.is_alive(), "a writer got neither an answer nor an end"
        assert [writer.refused for writer in writers] == [None] * WRITERS, self.cycle
        self.server.wait()
        self.server.start()
        self.check(writers)
        return sum(writer.acknowledged for writer in writers)

    def check(self, writers):
        cloudmap = CloudMap(self.server.api_address)
        made = {service["Name"]: service["Id"] for page in cloudmap.pages("ListServices")
                for service in page["Services"] if service["Name"].startswith("made-")}
        self.ids |= made
        for writer in writers:
            found = self.instances(cloudmap, writer.service())
            found |= {("service", name): service for name, service in made.items()
                      if name.startswith(f"made-{writer.number}-")}
            self.compare(writer, found)
            self.known[writer.number] = found
            self.check_answers(cloudmap, writer, found)
        serial = self.server.resolver.serial("production.local")
        assert serial >= self.serial, f"cycle {self.cycle}: the serial went back"
        self.serial = serial

    def instances(self, cloudmap, service):
        health, listed = cloudmap.health(service), cloudmap.listed_instances(service)
        assert set(health) == set(listed)
        for values in listed.values():
            assert values == attributes(int(values["number"]))
        return {("instance", instance): (int(values["number"]), health[instance])
                for instance, values in listed.items()}

    def compare(self, writer, found):
        key, value = writer.doubtful or (None, None)
        for each in set(found) | set(writer.known):
            allowed = [writer.known.get(each, GONE)]
            if each == key:
                allowed.append(value if each[0] == "instance" or value is GONE else found.get(each, GONE))
            assert found.get(each, GONE) in allowed, (
                f"cycle {self.cycle}, writer {writer.number}, {each}: found {found.get(each)}, "
                f"acknowledged {allowed[0]}, unanswered {allowed[1:]}")

    def check_answers(self, cloudmap, writer, found):
        """DNS agrees. There are at most eight instances, so every healthy one is in the answer."""
        healthy = {address(value[0]) for key, value in found.items() if key[0] == "instance" and value[1] == "HEALTHY"}
        name = f"own-{writer.number}"
        assert self.server.resolver.addresses(f"{name}.production.local") == healthy, f"cycle {self.cycle}"
        revision = cloudmap.revision("production.local", name)
        assert revision >= self.revisions[writer.number], f"cycle {self.cycle}: the revision went back"
        self.revisions[writer.number] = revision


def test_nothing_acknowledged_is_lost_in_a_hundred_crashes(server):
    world, moments = World(server), random.Random()
    acknowledged = [world.cycle_once(moments.uniform(0.005, 0.5)) for _ in range(CYCLES)]
    assert sum(acknowledged) > 10 * CYCLES, "there was load"
