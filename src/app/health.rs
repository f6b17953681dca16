//! The tasks of health, which one server of a store runs at a time: timers and active checks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::checks::{CheckMetrics, CheckSettings, Checks};
use crate::config::Config;
use crate::registry::{Registry, timers};

#[derive(Clone)]
pub(super) struct HealthTasks {
    registry: Registry,
    checks: Arc<Checks>,
}

impl HealthTasks {
    pub(super) fn new(
        config: &Config,
        registry: &Registry,
        running_max: usize,
    ) -> anyhow::Result<HealthTasks> {
        let settings = CheckSettings {
            interval: Duration::from_secs(config.checks_interval_seconds.into()),
            running_max,
        };
        let checks = Checks::new(registry.clone(), settings).context("cannot prepare health checks")?;
        Ok(HealthTasks { registry: registry.clone(), checks: Arc::new(checks) })
    }

    pub(super) fn metrics(&self) -> Arc<CheckMetrics> {
        self.checks.metrics()
    }

    /// Runs the tasks until the future is dropped.
    pub(super) async fn run(self) {
        tokio::join!(timers::run(self.registry), self.checks.run());
    }
}
