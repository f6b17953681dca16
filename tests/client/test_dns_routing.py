"""Routing policies: MULTIVALUE answers eight random records in random order, WEIGHTED one random record."""

from collections import Counter

import pytest

from harness.cloudmap import unique

INSTANCES = 20
QUERIES = 400


class Answers:
    """A service with instances, and its answers to many queries."""

    def __init__(self, server, count, **service):
        self.server, self.cloudmap = server, server.cloudmap()
        zone = f"{unique('routing')}.local"
        namespace = self.cloudmap.private_namespace(zone)
        self.service = self.cloudmap.service(namespace, "web", **service)
        self.name = f"web.{zone}."
        for number in range(count):
            self.cloudmap.instance(self.service, f"i-{number}", ipv4=f"10.0.0.{number}", ipv6=f"fd00::{number}",
                                   port=1000 + number)

    def ask(self, rrtype="A", queries=QUERIES):
        """The data of each answer, in the order of the response."""
        found = []
        for _ in range(queries):
            reply = self.server.resolver.ask(self.name, rrtype)
            found.append([rdata.to_text() for rrset in reply.answer for rdata in rrset])
        return found


@pytest.mark.parametrize("rrtype, records", [("A", {"A": 60}), ("AAAA", {"AAAA": 60}), ("SRV", {"SRV": 60})])
def test_multivalue_answers_eight_of_many_uniformly(shared, rrtype, records):
    found = Answers(shared, INSTANCES, **records).ask(rrtype)
    assert {len(answer) for answer in found} == {8}
    assert all(len(set(answer)) == 8 for answer in found)
    counts = Counter(data for answer in found for data in answer)
    expected = QUERIES * 8 / INSTANCES
    assert len(counts) == INSTANCES
    # Seven standard deviations: a uniform choice exceeds them in less than one of 10^10 runs.
    slack = 7 * (expected * (1 - 8 / INSTANCES)) ** 0.5
    assert all(abs(count - expected) < slack for count in counts.values()), counts


def test_the_order_is_shuffled(shared):
    found = Answers(shared, 4, A=60).ask()
    first = Counter(answer[0] for answer in found)
    assert all(abs(count - QUERIES / 4) < 7 * (QUERIES * 3 / 16) ** 0.5 for count in first.values()), first
    assert len({tuple(answer) for answer in found}) == 24, "every order of four"


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_up_to_eight_are_all_answered(shared, count):
    answers = Answers(shared, count, A=60)
    assert {frozenset(answer) for answer in answers.ask(queries=30)} == {
        frozenset(f"10.0.0.{number}" for number in range(count))}


def test_of_nine_instances_each_is_left_out_at_times(shared):
    found = Answers(shared, 9, A=60).ask(queries=200)
    assert {len(answer) for answer in found} == {8}
    assert len({data for answer in found for data in answer}) == 9


@pytest.mark.parametrize("rrtype, records", [("A", {"A": 60}), ("AAAA", {"AAAA": 60}), ("SRV", {"SRV": 60})])
def test_weighted_answers_one_uniformly(shared, rrtype, records):
    found = Answers(shared, 5, routing="WEIGHTED", **records).ask(rrtype)
    assert {len(answer) for answer in found} == {1}
    counts = Counter(answer[0] for answer in found)
    assert len(counts) == 5
    assert all(abs(count - QUERIES / 5) < 7 * (QUERIES * 0.16) ** 0.5 for count in counts.values()), counts


def test_additionals_are_those_of_the_targets_chosen(shared):
    answers = Answers(shared, INSTANCES, SRV=60)
    for _ in range(20):
        reply = shared.dig(answers.name, "SRV", "+tcp")
        targets = {data.split()[3] for data in reply.data("SRV")}
        assert {name for name, _ in reply.additional_data("A")} == targets
        assert {name for name, _ in reply.additional_data("AAAA")} == targets


def test_udp_and_tcp_answer_alike(shared):
    answers = Answers(shared, 5, A=60)
    for options in ((), ("+tcp",), ("+edns=0",), ("+tcp", "+edns=0")):
        shared.dig(answers.name, "A", *options).assert_positive(*(f"10.0.0.{number}" for number in range(5)))


def test_weighted_answers_skip_unhealthy_instances(shared):
    answers = Answers(shared, 3, routing="WEIGHTED", A=60, custom_health=True)
    answers.cloudmap.set_health(answers.service, "i-1", "UNHEALTHY")
    seen = {answer[0] for answer in answers.ask(queries=60)}
    assert seen == {"10.0.0.0", "10.0.0.2"}


def test_eight_are_chosen_of_the_healthy_ones(shared):
    answers = Answers(shared, 12, A=60, custom_health=True)
    for number in range(2):
        answers.cloudmap.set_health(answers.service, f"i-{number}", "UNHEALTHY")
    found = answers.ask(queries=150)
    assert {len(answer) for answer in found} == {8}
    assert {data for answer in found for data in answer} == {f"10.0.0.{number}" for number in range(2, 12)}
