//! Watches of the two ConfigMaps that CoreDNS reads, and their last known contents.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::stream::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

use super::{COREFILE_KEY, CUSTOM, MAIN, NAMESPACE};
use crate::kubernetes::events::{error_text, list_and_watch};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::kubernetes) enum MapName {
    Custom,
    Main,
}

/// State of one ConfigMap according to its watch.
#[derive(Default)]
pub(in crate::kubernetes) struct CachedMap {
    pub(in crate::kubernetes) map: Option<ConfigMap>,
    /// True once a list was complete. From then on, `map` is `None` only if there is no such ConfigMap.
    pub(in crate::kubernetes) is_listed: bool,
    is_in_list: bool,
    pub(in crate::kubernetes) failure: Option<String>,
}

pub(in crate::kubernetes) enum MapEvent {
    Changed(MapName, Box<Event<ConfigMap>>),
    Failed(MapName, String),
}

pub(in crate::kubernetes) type MapEvents = Pin<Box<dyn Stream<Item = MapEvent> + Send>>;

impl CachedMap {
    pub(in crate::kubernetes) fn apply(&mut self, event: Event<ConfigMap>) {
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

    /// Keys of the ConfigMap; `None` if there is no such ConfigMap, or it may not be read.
    pub(in crate::kubernetes) fn keys(&self) -> Option<BTreeMap<String, String>> {
        self.map.as_ref().map(|map| map.data.clone().unwrap_or_default())
    }

    pub(in crate::kubernetes) fn corefile(&self) -> Option<String> {
        self.map.as_ref()?.data.as_ref()?.get(COREFILE_KEY).cloned()
    }
}

pub(in crate::kubernetes) fn map_events(client: &Client, map: MapName) -> MapEvents {
    let name = match map {
        MapName::Custom => CUSTOM,
        MapName::Main => MAIN,
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let map_event = move |event| match event {
        Ok(event) => MapEvent::Changed(map, Box::new(event)),
        Err(error) => MapEvent::Failed(map, error_text(&error)),
    };
    list_and_watch(maps, config).map(map_event).boxed()
}
