//! Watches of the two ConfigMaps that CoreDNS reads, and their last known contents.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};

use crate::kubernetes::client::error_text;
use crate::kubernetes::follow::{Follower, ObservedClient, WatchResult};

/// ConfigMaps of CoreDNS, and our key in the one whose keys the CoreDNS of k3s imports. The other one has the main
/// Corefile.
pub(super) const NAMESPACE: &str = "kube-system";
pub(super) const CUSTOM: &str = "coredns-custom";
pub(super) const CUSTOM_KEY: &str = "cloudmap-dns.server";
pub(super) const MAIN: &str = "coredns";
pub(super) const COREFILE_KEY: &str = "Corefile";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MapName {
    Custom,
    Main,
}

/// State of one ConfigMap according to its watch. `is_listed` is true once a list was complete; from then on, `map`
/// is `None` only if there is no such ConfigMap.
#[derive(Default)]
pub(in crate::kubernetes) struct CachedMap {
    pub(super) map: Option<ConfigMap>,
    pub(in crate::kubernetes) is_listed: bool,
    is_in_list: bool,
    pub(in crate::kubernetes) failure: Option<String>,
}

#[derive(Default)]
pub(in crate::kubernetes) struct Maps {
    pub(in crate::kubernetes) custom: CachedMap,
    pub(in crate::kubernetes) main: CachedMap,
}

pub(in crate::kubernetes) struct MapEvent {
    name: MapName,
    event: WatchResult<ConfigMap>,
}

/// Events of both ConfigMaps, in a stream that never ends.
pub(in crate::kubernetes) type MapEvents = Pin<Box<dyn Stream<Item = MapEvent> + Send>>;

/// Change of a ConfigMap, or an error of its watch, during which its last content counts. The error is the `first` one if
/// the ConfigMap was neither read before nor known to be unreadable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::kubernetes) enum MapChange {
    Content,
    Failure { is_first: bool },
}

pub(in crate::kubernetes) fn follow_maps(client: &ObservedClient) -> MapEvents {
    let follow = |name: MapName| {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", name.as_str()));
        Follower::new(client, Some(NAMESPACE), config).map(move |event| MapEvent { name, event })
    };
    stream::select(follow(MapName::Custom), follow(MapName::Main)).boxed()
}

impl Maps {
    pub(in crate::kubernetes) fn apply(&mut self, MapEvent { name, event }: MapEvent) -> MapChange {
        let cached = self.get_mut(name);
        match event {
            Ok(event) => {
                cached.apply(event);
                MapChange::Content
            }
            Err(error) => {
                let why = error_text(&error);
                tracing::debug!(error = why, ?name, "the watch of a ConfigMap of CoreDNS had an error");
                let is_first = cached.failure.replace(why).is_none() && !cached.is_listed;
                MapChange::Failure { is_first }
            }
        }
    }

    pub(super) fn get(&self, name: MapName) -> &CachedMap {
        match name {
            MapName::Custom => &self.custom,
            MapName::Main => &self.main,
        }
    }

    pub(super) fn get_mut(&mut self, name: MapName) -> &mut CachedMap {
        match name {
            MapName::Custom => &mut self.custom,
            MapName::Main => &mut self.main,
        }
    }

    /// True if the content of both is known, or it is known that it can't be read.
    pub(in crate::kubernetes) fn are_known(&self) -> bool {
        self.custom.is_known() && self.main.is_known()
    }
}

impl MapName {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            MapName::Custom => CUSTOM,
            MapName::Main => MAIN,
        }
    }
}

impl CachedMap {
    fn apply(&mut self, event: Event<ConfigMap>) {
        self.failure = None;
        match event {
            Event::Init => self.is_in_list = false,
            Event::InitApply(map) => {
                self.is_in_list = true;
                self.map = Some(map);
            }
            Event::InitDone => {
                self.is_listed = true;
                if !self.is_in_list {
                    self.map = None;
                }
            }
            Event::Apply(map) => self.map = Some(map),
            Event::Delete(_) => self.map = None,
        }
    }

    /// True if the content is known, or it is known that it can't be read.
    pub(super) fn is_known(&self) -> bool {
        self.is_listed || self.failure.is_some()
    }

    /// Keys of the ConfigMap; `None` if there is no such ConfigMap, or it may not be read.
    pub(in crate::kubernetes) fn keys(&self) -> Option<BTreeMap<String, String>> {
        self.map.as_ref().map(|map| map.data.clone().unwrap_or_default())
    }

    pub(in crate::kubernetes) fn corefile(&self) -> Option<String> {
        self.map.as_ref()?.data.as_ref()?.get(COREFILE_KEY).cloned()
    }
}
