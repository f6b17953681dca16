//! Export and import of a whole store as lines of JSON.
//!
//! The first line has the format's version and the identity; every other line is one object: `namespace`, `service`,
//! `instance`, `revision`, `operation`, `report` (of a pod's health), or `sequence`, the last number of a change. Namespaces
//! precede their services, and services their instances. An import keeps ids, because they are derived from names, and also
//! operations and numbers, so that revisions continue to grow.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::config::{Config, StoreKind};
use crate::kubernetes::Cluster;
use crate::model::{
    Attributes, CustomHealthStatus, Instance, Namespace, Operation, PodSignals, Report, Service, ServiceId,
    Signals, Uid,
};
use crate::registry::Change;

use super::{registry_settings, storage};

const FORMAT: u64 = 1;
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const BATCH_CHANGES_MAX: usize = 1_000;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    #[serde(rename_all = "camelCase")]
    Export {
        format: u64,
        account_id: String,
        region: String,
    },
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    Instance(InstanceLine),
    Revision {
        service: ServiceId,
        number: u64,
    },
    Operation(Arc<Operation>),
    Report {
        service: ServiceId,
        instance: String,
        report: PodLine,
    },
    Sequence(u64),
}

/// Signals about a pod. Earlier versions wrote the report alone, with the same names.
#[derive(Deserialize, Serialize)]
struct PodLine {
    pod: String,
    pod_uid: Uid,
    #[serde(flatten)]
    report: Option<Report>,
    /// All signals but the report.
    #[serde(default, skip_serializing_if = "Signals::is_empty")]
    signals: Signals,
}

#[derive(Deserialize, Serialize)]
struct InstanceLine {
    service: ServiceId,
    id: String,
    creator_request_id: Option<String>,
    attributes: BTreeMap<String, String>,
    custom_health: Option<CustomHealthStatus>,
    #[serde(default, skip_serializing_if = "Signals::is_empty")]
    signals: Signals,
    operation: u64,
}

impl Line {
    fn of(change: Change) -> Option<Line> {
        Some(match change {
            Change::PutNamespace(namespace) => Line::Namespace(namespace),
            Change::PutService(service) => Line::Service(service),
            Change::PutInstance(service, instance) => Line::Instance(InstanceLine {
                service,
                id: instance.id().into(),
                creator_request_id: instance.creator_request_id().map(std::borrow::Cow::into_owned),
                attributes: instance
                    .attributes()
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .collect(),
                custom_health: instance.custom_health(),
                signals: instance.signals(),
                operation: instance.operation(),
            }),
            Change::PutRevision(service, number) => Line::Revision { service, number },
            Change::PutOperation(operation) => Line::Operation(operation),
            Change::PutPodSignals(service, instance, about) => {
                let PodSignals { pod, pod_uid, mut signals } = PodSignals::clone(&about);
                let report = PodLine { pod, pod_uid, report: signals.report.take(), signals };
                Line::Report { service, instance: instance.into(), report }
            }
            Change::PutSequence(number) => Line::Sequence(number),
            Change::DeleteNamespace(_)
            | Change::DeleteService(_)
            | Change::DeleteInstance(..)
            | Change::ForgetInstance(..)
            | Change::ForgetNamespace(_)
            | Change::ForgetService(_)
            | Change::DropPodSignals(..)
            | Change::PutSerial(..)
            | Change::PutNumbering(_)
            | Change::DropOperation(_) => return None,
        })
    }

    fn change(self) -> anyhow::Result<Change> {
        Ok(match self {
            Line::Export { .. } => bail!("a second header line of an export"),
            Line::Namespace(namespace) => Change::PutNamespace(namespace),
            Line::Service(service) => Change::PutService(service),
            Line::Instance(line) => {
                let attributes = Attributes::new(&line.attributes).context("an attribute is too long")?;
                let creator = line.creator_request_id.as_deref();
                let instance = Instance::new(&line.id, creator, &attributes, None, line.operation);
                let instance = instance.context("the instance's id is too long")?;
                let instance = instance.with_signals(line.custom_health, &line.signals);
                Change::PutInstance(line.service, instance)
            }
            Line::Revision { service, number } => Change::PutRevision(service, number),
            Line::Operation(operation) => Change::PutOperation(operation),
            Line::Report { service, instance, report } => {
                let PodLine { pod, pod_uid, report, signals } = report;
                let signals = Signals { report, ..signals };
                Change::PutPodSignals(service, instance.into(), PodSignals { pod, pod_uid, signals }.into())
            }
            Line::Sequence(number) => Change::PutSequence(number),
        })
    }
}

/// Writes all objects of the store that the settings select to `out`.
pub fn export(config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    with_runtime(config, |cluster| {
        let settings = registry_settings(config);
        let head = Line::Export {
            format: FORMAT,
            account_id: settings.identity.account_id.to_string(),
            region: settings.identity.region.to_string(),
        };
        let mut changes = Vec::new();
        match config.store {
            StoreKind::Kubernetes => {
                let mut store = storage::open_kubernetes(config, cluster, settings, false)?;
                store.load_all(&mut |change| changes.push(change))?;
            }
            _ => storage::open(config, cluster, settings)?.store.load(&mut |change| changes.push(change))?,
        }
        let mut write = |line: &Line| -> anyhow::Result<()> {
            serde_json::to_writer(&mut *out, line)?;
            Ok(out.write_all(b"\n")?)
        };
        write(&head)?;
        for line in changes.into_iter().filter_map(Line::of) {
            write(&line)?;
        }
        Ok(out.flush()?)
    })
}

/// Reads the lines of an [`export`] into the store that the settings select, which has to be empty. Returns a summary with
/// the numbers of imported objects.
pub fn import(config: &Config, input: &mut dyn BufRead) -> anyhow::Result<String> {
    with_runtime(config, |cluster| {
        let settings = registry_settings(config);
        let mut changes = Vec::new();
        let mut text = String::new();
        for number in 1u64.. {
            text.clear();
            let read = std::io::Read::take(&mut *input, LINE_BYTES_MAX).read_line(&mut text);
            if read.with_context(|| format!("line {number} cannot be read"))? == 0 {
                break;
            }
            let line = serde_json::from_str(&text).map_err(anyhow::Error::from);
            match (number, line.with_context(|| format!("line {number} is not a line of an export"))?) {
                (1, Line::Export { format: FORMAT, account_id, region }) => {
                    let ours = &settings.identity;
                    if *account_id != *ours.account_id || *region != *ours.region {
                        bail!(
                            "the export is of the account {account_id} and the region {region}, which are part of all ids; \
                             give --account-id {account_id} --region {region}"
                        );
                    }
                }
                (1, Line::Export { format, .. }) => {
                    bail!("the export has the format {format}; this version reads the format {FORMAT}")
                }
                (1, _) => bail!("the first line is not the header of an export"),
                (_, line) => changes.push(line.change().with_context(|| format!("line {number}"))?),
            }
        }
        let count = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count();
        let done = format!(
            "imported {} namespaces, {} services, {} instances, {} operations",
            count(|change| matches!(change, Change::PutNamespace(_))),
            count(|change| matches!(change, Change::PutService(_))),
            count(|change| matches!(change, Change::PutInstance(..))),
            count(|change| matches!(change, Change::PutOperation(_))),
        );
        match config.store {
            StoreKind::Kubernetes => {
                storage::open_kubernetes(config, cluster, settings, false)?.import(&changes)?
            }
            _ => {
                let mut store = storage::open(config, cluster, settings)?.store;
                let mut is_empty = true;
                store.load(&mut |_| is_empty = false)?;
                if !is_empty {
                    bail!("the store is not empty; import into an empty one, such as another --data-dir");
                }
                renumber_duplicates(&mut changes);
                for batch in changes.chunks(BATCH_CHANGES_MAX) {
                    store.commit(&[batch.to_vec()])?;
                }
            }
        }
        Ok(done)
    })
}

/// Makes the numbers of operations unique, as a local store requires. In a store that servers share, operations may have
/// equal numbers.
fn renumber_duplicates(changes: &mut [Change]) {
    let mut taken = HashSet::new();
    for change in changes.iter_mut() {
        if let Change::PutOperation(operation) = change {
            let mut number = operation.number;
            while !taken.insert(number) {
                number += 1;
            }
            if number != operation.number {
                *operation = Arc::new(Operation { number, ..Operation::clone(operation) });
            }
        }
    }
    let last = taken.into_iter().max().unwrap_or(0);
    for change in changes {
        if let Change::PutSequence(sequence) = change {
            *sequence = last.max(*sequence);
        }
    }
}

fn with_runtime<T>(
    config: &Config,
    run: impl FnOnce(Option<&Cluster>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let cluster = match config.store {
        StoreKind::Kubernetes => runtime.block_on(Cluster::find(config.kubeconfig.as_deref()))?,
        _ => None,
    };
    let _inside = runtime.enter();
    run(cluster.as_ref())
}
