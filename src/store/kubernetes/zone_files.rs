//! The part of zones' serials that depends on zone files. Servers share it in an annotation of the CloudMapStore object:
//! for each zone the digest of the contents of its file, and the offset of the serial. `snapshot/serials.rs` explains how
//! servers agree.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use tokio::runtime::Handle;

use crate::kubernetes::{FIELD_MANAGER, told};

use super::names::STORE_OBJECT;
use super::renumber;
use super::resources::CloudMapStore;
use super::shared::Shared;

/// Annotation with a line for each zone: its name, the digest in hexadecimal digits and the offset, separated by spaces.
const ZONE_FILES: &str = "cloudmap-dns.io/zone-files";
/// Limit of the annotation in bytes; Kubernetes allows 256 KiB for all annotations of an object.
const BYTES_MAX: usize = 200_000;
const AGREE_MS_MAX: u64 = 3_000;
/// Limit of the consecutive attempts of one change that lose against other servers.
const ATTEMPTS_MAX: usize = 20;

type Entry = (u128, u32);

/// Digests and serial offsets of zone files, by zone.
pub type ZoneFileNumbers = BTreeMap<String, Entry>;

/// A handle to the numbers of zone files that servers share; clones share it too.
#[derive(Clone)]
pub struct SharedZoneFiles {
    shared: Arc<Shared>,
    runtime: Handle,
}

impl SharedZoneFiles {
    pub(super) fn new(shared: Arc<Shared>, runtime: Handle) -> SharedZoneFiles {
        SharedZoneFiles { shared, runtime }
    }

    /// The newest numbers that this server knows.
    pub fn current(&self) -> Arc<ZoneFileNumbers> {
        self.shared.index().zone_files().clone()
    }

    /// Applies `change` to the current numbers in the cluster, and stores the result; `change` is called again if another
    /// server has written meanwhile. Blocks for up to three seconds, or twice that if the runtime is busy, and needs a
    /// free thread of the runtime.
    pub fn change(
        &self,
        change: impl Fn(&mut ZoneFileNumbers) + Send + Sync + 'static,
    ) -> Result<(), String> {
        if !self.shared.index().is_read() || !self.shared.progress().trouble.is_empty() {
            return Err("the Kubernetes API does not answer".into());
        }
        let (done, is_done) = mpsc::channel();
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            let limit = Duration::from_millis(AGREE_MS_MAX);
            let stored = tokio::time::timeout(limit, store(&shared, &change)).await;
            let late = |_| "the Kubernetes API does not answer in time".to_string();
            // The receiver is gone if this result comes too late.
            let _ = done.send(stored.map_err(late).and_then(|stored| stored));
        });
        let limit = Duration::from_millis(2 * AGREE_MS_MAX);
        is_done.recv_timeout(limit).map_err(|_| "the store was closed".to_string())?
    }
}

async fn store(shared: &Shared, change: &impl Fn(&mut ZoneFileNumbers)) -> Result<(), String> {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    for _ in 0..ATTEMPTS_MAX {
        let there = shared.stores.get_opt(STORE_OBJECT).await.map_err(|error| told(&error))?;
        let before = there.as_ref().map(read).unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            there.iter().for_each(|there| shared.update_index(|index| renumber::put(index, there)));
            return Ok(());
        }
        let text = text(&after);
        if text.len() > BYTES_MAX {
            return Err(format!("there are more zones than {BYTES_MAX} bytes can hold"));
        }
        let written = match there {
            Some(there) => {
                let metadata = serde_json::json!({
                    "resourceVersion": there.resource_version(),
                    "annotations": { ZONE_FILES: text },
                });
                let patch = Patch::Merge(serde_json::json!({ "metadata": metadata }));
                shared.stores.patch(STORE_OBJECT, &parameters, &patch).await
            }
            None => renumber::create(shared, ZONE_FILES, text).await,
        };
        match written {
            Ok(object) => {
                shared.update_index(|index| renumber::put(index, &object));
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(told(&error)),
        }
    }
    Err("other servers change it continuously".into())
}

/// Reads the numbers from a version of the CloudMapStore object. Malformed lines are skipped.
pub(super) fn read(object: &CloudMapStore) -> ZoneFileNumbers {
    let text = object.annotations().get(ZONE_FILES).map(String::as_str).unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (name, digest, offset) = (words.next()?, words.next()?, words.next()?);
        Some((name.to_string(), (u128::from_str_radix(digest, 16).ok()?, offset.parse().ok()?)))
    };
    text.lines().filter_map(entry).collect()
}

fn text(numbers: &ZoneFileNumbers) -> String {
    let lines = numbers.iter().map(|(name, (digest, offset))| format!("{name} {digest:x} {offset}"));
    lines.collect::<Vec<_>>().join("\n")
}
