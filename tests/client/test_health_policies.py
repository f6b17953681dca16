"""Policies of health and routing: minimum-healthy, answer-max and WEIGHT, by setting, service attribute and instance."""

from collections import Counter

import pytest

from harness.cloudmap import code_of, unique


class Service:
    """A service with custom health and numbered instances, of which the first ones are HEALTHY."""

    def __init__(self, server, count, healthy=None, weights=(), **service):
        self.server, self.cloudmap = server, server.cloudmap()
        self.zone = f"{unique('policy')}.local"
        self.id = self.cloudmap.service(self.cloudmap.private_namespace(self.zone), "web", custom_health=True,
                                        **{"A": 60, "SRV": 60, **service})
        self.name = f"web.{self.zone}"
        for number in range(count):
            weight = {"WEIGHT": str(weights[number])} if weights else {}
            self.cloudmap.instance(self.id, f"i-{number}", ipv4=f"10.0.0.{number}", port=80,
                                   status="HEALTHY" if healthy is None or number < healthy else "UNHEALTHY", **weight)

    def answers(self, queries):
        """The instances of each of so many answers over UDP."""
        for _ in range(queries):
            yield {int(address.rpartition(".")[2]) for address in self.server.resolver.addresses(self.name)}

    def discovered(self):
        return {int(instance[2:]) for instance in self.cloudmap.discovered(self.zone, "web")}

    def explained(self):
        return self.server.run("explain", self.name, "A").stdout


@pytest.mark.parametrize("minimum, healthy, answered", [
    ("2", 2, {0, 1}), ("2", 1, {0, 1, 2, 3}), ("50%", 2, {0, 1}), ("51%", 2, {0, 1, 2, 3}), ("100%", 4, {0, 1, 2, 3}),
    ("0", 0, set()), ("1", 0, {0, 1, 2, 3}),
])
def test_below_the_minimum_all_instances_are_candidates(start, minimum, healthy, answered):
    by_setting = Service(start("--minimum-healthy", minimum), 4, healthy=healthy)
    by_attribute = Service(start(), 4, healthy=healthy)
    by_attribute.cloudmap.set_attribute(by_attribute.id, "minimum-healthy", minimum)
    for service in (by_setting, by_attribute):
        assert list(service.answers(3)) == [answered] * 3
        assert service.discovered() == answered


def test_healthy_instances_come_first_and_others_fill_the_answer(shared):
    service = Service(shared, 20, healthy=3)
    service.cloudmap.set_attribute(service.id, "minimum-healthy", "50%")
    answers = list(service.answers(100))
    assert all(len(answer) == 8 and answer >= {0, 1, 2} for answer in answers)
    assert set().union(*answers) == set(range(20)), "the others are drawn for each query"
    assert service.discovered() == set(range(20))
    assert "served (minimum-healthy 50%: 3 of 20 instances healthy)" in service.explained()
    assert "up to 8 of 20, drawn for each query, always the first 3" in service.explained()


def test_weighted_answers_are_healthy_ones_while_there_are_any(shared):
    service = Service(shared, 4, healthy=1, routing="WEIGHTED")
    service.cloudmap.set_attribute(service.id, "minimum-healthy", "100%")
    assert all(answer == {0} for answer in service.answers(30))


def test_a_change_of_the_policy_acts_with_the_next_query(shared):
    service = Service(shared, 4, healthy=1)
    for minimum, answered in (("2", {0, 1, 2, 3}), ("1", {0}), ("50%", {0, 1, 2, 3}), ("25%", {0})):
        service.cloudmap.set_attribute(service.id, "minimum-healthy", minimum)
        assert list(service.answers(1)) == [answered]
    service.cloudmap.set_attribute(service.id, "minimum-healthy", "4")
    service.cloudmap.DeleteServiceAttributes(ServiceId=service.id, Attributes=["minimum-healthy"])
    assert list(service.answers(1)) == [{0}]


@pytest.mark.parametrize("limit", [1, 3, 20, 64])
def test_answers_have_up_to_answer_max_records(start, limit):
    by_setting = Service(start("--answer-max", str(limit)), 70)
    by_attribute = Service(start(), 70)
    by_attribute.cloudmap.set_attribute(by_attribute.id, "answer-max", str(limit))
    for service in (by_setting, by_attribute):
        answers = list(service.answers(40))
        assert {len(answer) for answer in answers} == {limit}
        assert len(set().union(*answers)) > min(limit, 69)
        assert len(service.discovered()) == 70
        over_tcp = service.server.dig(service.name, "SRV", "+tcp")
        assert len(over_tcp.data("SRV")) == limit and len(over_tcp.additional_data("A")) == limit


def test_records_beyond_the_size_of_a_datagram_are_cut_with_tc(start):
    service = Service(start("--answer-max", "64"), 64)
    reply = service.server.dig(service.name, "A", "+ignore")
    assert "tc" in reply.flags and 20 < len(reply.data("A")) < 64


def test_weights_are_the_draw_of_weighted_and_in_srv_records(shared):
    service = Service(shared, 3, weights=(1, 2, 7), routing="WEIGHTED")
    counts = Counter(next(iter(answer)) for answer in service.answers(1_000))
    # Seven standard deviations of each count.
    assert all(abs(counts[number] - 100 * weight) < 7 * (100 * weight) ** 0.5 for number, weight in enumerate((1, 2, 7)))
    many = Service(shared, 3, weights=(1, 2, 255))
    assert sorted(data.split()[1] for data in shared.dig(many.name, "SRV", "+tcp").data("SRV")) == ["1", "2", "255"]
    assert all(answer == {0, 1, 2} for answer in many.answers(3))


def test_weight_zero_is_out_of_every_answer_while_another_instance_has_more(shared):
    service = Service(shared, 3, weights=(0, 1, 0))
    assert list(service.answers(3)) == [{1}] * 3
    assert service.discovered() == {1}
    assert "not served: its weight is 0" in service.explained()
    service.cloudmap.deregister(service.id, "i-1")
    assert list(service.answers(3)) == [{0, 2}] * 3
    assert service.discovered() == {0, 2}


@pytest.mark.parametrize("weight", ["", "-1", "256", "1.5", "+1", "heavy"])
def test_weights_have_to_be_numbers_within_limits(cloudmap, weight):
    service = cloudmap.service(cloudmap.private_namespace(), A=60)
    assert code_of(cloudmap.RegisterInstance, ServiceId=service, InstanceId="a",
                   Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1", "WEIGHT": weight}) == "InvalidInput"


@pytest.mark.parametrize("key, value, valid", [
    ("minimum-healthy", "101%", "a number of instances from 0 to 1000000, or a share of them from 0% to 100%"),
    ("minimum-healthy", "most", "a number of instances from 0 to 1000000, or a share of them from 0% to 100%"),
    ("answer-max", "0", "a number of records from 1 to 64"),
    ("answer-max", "65", "a number of records from 1 to 64"),
])
def test_a_wrong_policy_is_refused_with_its_range(cloudmap, key, value, valid):
    service = cloudmap.service(cloudmap.private_namespace(), A=60)
    with pytest.raises(Exception, match=f"The service attribute {key} has the value '{value}'; it must be {valid}"):
        cloudmap.UpdateServiceAttributes(ServiceId=service, Attributes={key: value})


def test_policies_and_weights_survive_a_restart(start):
    service = Service(start(), 10, healthy=1, weights=(1,) * 9 + (3,))
    service.cloudmap.set_attribute(service.id, "minimum-healthy", "50%")
    service.cloudmap.set_attribute(service.id, "answer-max", "9")
    service.server.kill9()
    service.server.restart()
    assert all(len(answer) == 9 and 0 in answer for answer in service.answers(5))
    assert "3" in {data.split()[1] for _ in range(20) for data in service.server.dig(service.name, "SRV", "+tcp").data("SRV")}
