//! Numbers of instances by service and status, for metrics.

use crate::exposition::{Collect, Exposition};
use crate::model::HealthStatus;

use super::handle::Registry;

/// Statuses in the order of [`Census::count`].
const STATUSES: [HealthStatus; 3] = [HealthStatus::Healthy, HealthStatus::Unhealthy, HealthStatus::Unknown];

/// Counts the instances for each scrape, which takes time proportional to their number. At most `services_max` services, the
/// oldest ones, have samples of their own.
pub struct Census {
    registry: Registry,
    services_max: usize,
}

impl Census {
    #[expect(missing_docs, reason = "the type's document explains the arguments")]
    pub fn new(registry: Registry, services_max: usize) -> Census {
        Census { registry, services_max }
    }
}

impl Collect for Census {
    fn collect(&self, out: &mut Exposition) {
        let state = self.registry.state();
        let policies = self.registry.settings().health;
        let (mut total, mut fail_open, mut without_answer) = ([0_u64; STATUSES.len()], 0_u64, 0_u64);
        let mut own = Vec::new();
        for (at, (_, found)) in state.services_after(None).enumerate() {
            let answering = policies.answering(found);
            let mut counts = [0_u64; STATUSES.len()];
            let mut has_answer = false;
            for instance in found.instances() {
                let status = answering.health().status_of(instance);
                if let Some(place) = STATUSES.iter().position(|other| *other == status) {
                    counts[place] += 1;
                }
                has_answer |= answering.answers(instance);
            }
            total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
            fail_open += u64::from(answering.shortage().is_some() && has_answer);
            without_answer += u64::from(!has_answer && !found.instances().is_empty());
            if at < self.services_max {
                own.push((found.service.clone(), counts));
            }
        }
        let mut family = out.gauge("instances_by_status", "Cloud Map instances, by their health.");
        for (status, count) in STATUSES.iter().zip(total) {
            family.sample(&[("status", status.as_str())], count);
        }
        let help = "Instances of a service, by their health; for the services that the setting metrics-services allows.";
        let mut family = out.gauge("service_instances", help);
        for (service, counts) in own {
            let name = state.full_name(&service).unwrap_or_default();
            for (status, count) in STATUSES.iter().zip(counts) {
                // An HTTP namespace can have the name of a DNS namespace.
                let labels = [("service", &*name), ("id", service.id.as_str()), ("status", status.as_str())];
                family.sample(&labels, count);
            }
        }
        let help = "Services with fewer healthy instances than minimum-healthy or fail-open demands, which answer with others.";
        out.gauge("services_below_minimum", help).sample(&[], fail_open);
        let help = "Services with instances of which health permits none in answers.";
        out.gauge("services_without_answer", help).sample(&[], without_answer);
    }
}
