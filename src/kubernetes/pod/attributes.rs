//! Attributes of a task's instance: those that ECS sets on AWS, and those that KECS adds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::instance::{
    AVAILABILITY_ZONE, AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6, AWS_INSTANCE_PORT, WEIGHT,
};

use super::ids::task_id;
use super::object::{Pod, ZONE};
use super::policies::PodPolicies;
use super::registries::ServiceRegistry;
use super::rules::PodRules;

/// Limit for values from annotations, in bytes. Longer values are left out.
const VALUE_BYTES_MAX: usize = 255;

/// Properties of the ECS task that a pod runs, from its labels, its annotations and its namespace.
pub(super) struct Task {
    pod: String,
    namespace: String,
    id: String,
    account: String,
    region: String,
    zone: String,
    cluster: Option<String>,
    service: Option<String>,
    family: Option<String>,
    weight: Option<u8>,
}

impl Task {
    pub(super) fn of(
        pod: &Pod,
        name: &str,
        namespace: &str,
        rules: &PodRules,
        policies: &PodPolicies,
    ) -> Task {
        // The ARN has the form arn:aws:ecs:<region>:<account>:service/<cluster>/<service>.
        let arn = pod.annotation("kecs.dev/service-arn").filter(|arn| arn.len() <= VALUE_BYTES_MAX);
        let parts: Vec<&str> = arn.map(|arn| arn.splitn(6, ':').collect()).unwrap_or_default();
        let part = |at: usize| parts.get(at).copied().filter(|part| !part.is_empty());
        let resource: Vec<&str> = part(5).map(|text| text.split('/').collect()).unwrap_or_default();
        let in_arn = match resource[..] {
            ["service", cluster, _] => Some(cluster),
            _ => None,
        };
        let labelled = pod.label("kecs.dev/cluster").or_else(|| pod.label("kecs.io/cluster"));
        let (before, after) = split_namespace(namespace, labelled.or(in_arn));
        let cluster = labelled.or(in_arn).or(before);
        let region = part(3).or(after).unwrap_or(&rules.identity.region);
        // Pods of ECS services have the first annotation, those of TaskSets the second.
        let definitions = ["kecs.dev/task-definition", "kecs.dev/task-definition-arn"];
        let family = definitions.iter().find_map(|key| pod.annotation(key)).and_then(|arn| {
            let definition = arn.rsplit('/').next()?;
            let family = definition.rsplit_once(':').map_or(definition, |(family, _)| family);
            (1..=VALUE_BYTES_MAX).contains(&family.len()).then_some(family)
        });
        let service = pod.label("kecs.dev/service").or_else(|| pod.label("kecs.io/service"));
        Task {
            pod: name.to_string(),
            namespace: namespace.to_string(),
            id: task_id(pod, name),
            account: part(4).unwrap_or(&rules.identity.account_id).to_string(),
            region: region.to_string(),
            zone: pod.label(ZONE).map_or_else(|| format!("{region}a"), str::to_string),
            cluster: cluster.map(str::to_string),
            service: service.map(str::to_string),
            family: family.map(str::to_string),
            weight: policies.weight,
        }
    }

    pub(super) fn attributes(
        &self,
        pod: &Pod,
        registry: &ServiceRegistry,
        addresses: &[IpAddr],
    ) -> BTreeMap<String, String> {
        let port = registry.port.or_else(|| first_port(pod, registry.container.as_deref()));
        let port = port.map(|port| port.to_string());
        let address = |is_ipv4: bool| {
            addresses.iter().find(|address| address.is_ipv4() == is_ipv4).map(ToString::to_string)
        };
        let cluster = self.cluster.as_deref();
        let arn = cluster.map(|cluster| {
            format!("arn:aws:ecs:{}:{}:task/{cluster}/{}", self.region, self.account, self.id)
        });
        let text = |value: &str| Some(value.to_string());
        let pairs = [
            (AWS_INSTANCE_IPV4, address(true)),
            (AWS_INSTANCE_IPV6, address(false)),
            (AWS_INSTANCE_PORT, port.clone()),
            (AVAILABILITY_ZONE, text(&self.zone)),
            ("REGION", text(&self.region)),
            ("ECS_SERVICE_NAME", self.service.clone()),
            ("ECS_CLUSTER_NAME", cluster.and_then(text)),
            ("ECS_TASK_DEFINITION_FAMILY", self.family.clone()),
            ("AWS_INSTANCE_ID", text(&self.pod)),
            ("ECS_TASK_ARN", arn),
            ("ECS_CLUSTER", cluster.and_then(text)),
            ("K8S_NAMESPACE", text(&self.namespace)),
            ("CONTAINER_NAME", registry.container.clone()),
            ("PORT", port),
            (WEIGHT, self.weight.map(|weight| weight.to_string())),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
    }
}

/// Cluster and region from a Kubernetes namespace, which KECS names `<cluster>-<region>`. If the cluster is known,
/// only the region is returned; otherwise the region is recognised by its form, as in `us-east-1` or `us-gov-west-1`.
fn split_namespace<'n>(namespace: &'n str, cluster: Option<&str>) -> (Option<&'n str>, Option<&'n str>) {
    if let Some(cluster) = cluster {
        let region = namespace.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('-'));
        return (None, region.filter(|region| is_region(region)));
    }
    let cuts = namespace.match_indices('-').map(|(at, _)| (&namespace[..at], &namespace[at + 1..]));
    // The first match has the longest region, as in `my-app-us-gov-west-1`.
    match cuts.into_iter().find(|(before, after)| !before.is_empty() && is_region(after)) {
        Some((before, after)) => (Some(before), Some(after)),
        None => (None, None),
    }
}

/// True for two letters, one word (or two, if the first is a partition) and a number of one or two digits.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((area, rest)) = parts.split_first() else { return false };
    let Some((number, words)) = rest.split_last() else { return false };
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_partition = |word: &str| word == "gov" || word.starts_with("iso");
    area.len() == 2
        && is_word(area)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && words.iter().all(is_word)
        && (words.len() == 1 || (words.len() == 2 && is_partition(words[0])))
}

/// First port of the container of this name, or of the first container that has one.
fn first_port(pod: &Pod, container: Option<&str>) -> Option<u16> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).flatten();
    let mut named =
        containers.filter(|other| container.is_none_or(|name| other.name.as_deref() == Some(name)));
    let port = named.find_map(|container| container.ports.iter().flatten().next())?;
    u16::try_from(port.container_port?).ok().filter(|port| *port != 0)
}
