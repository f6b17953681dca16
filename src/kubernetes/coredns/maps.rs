//! Watches of the two ConfigMaps that CoreDNS reads, and their last known contents.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::stream::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

use super::{COREFILE_KEY, CUSTOM, MAIN, NAMESPACE};
use crate::kubernetes::events::{events, told};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::kubernetes) enum Which {
    Custom,
    Main,
}

/// State of one ConfigMap according to its watch.
#[derive(Default)]
pub(in crate::kubernetes) struct Known {
    pub(in crate::kubernetes) map: Option<ConfigMap>,
    /// True once a list was complete. From then on, `map` is `None` only if there is no such ConfigMap.
    pub(in crate::kubernetes) is_listed: bool,
    was_named: bool,
    pub(in crate::kubernetes) failure: Option<String>,
}

pub(in crate::kubernetes) enum Notice {
    Watched(Which, Box<Event<ConfigMap>>),
    Failed(Which, String),
}

pub(in crate::kubernetes) type Notices = Pin<Box<dyn Stream<Item = Notice> + Send>>;

impl Known {
    pub(in crate::kubernetes) fn take(&mut self, event: Event<ConfigMap>) {
        self.failure = None;
        match event {
            Event::Init => self.was_named = false,
            Event::InitApply(map) => {
                self.was_named = true;
                self.map = Some(map);
            }
            Event::InitDone => {
                self.is_listed = true;
                if !self.was_named {
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

pub(in crate::kubernetes) fn notices(client: &Client, which: Which) -> Notices {
    let name = match which {
        Which::Custom => CUSTOM,
        Which::Main => MAIN,
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let notice = move |event| match event {
        Ok(event) => Notice::Watched(which, Box::new(event)),
        Err(error) => Notice::Failed(which, told(&error)),
    };
    events(maps, config).map(notice).boxed()
}
