//! A store that persists nothing: everything is lost when the process ends.

use crate::registry::{Change, Group, Store, StoreError, Verdict};

/// Accepts all changes and discards them.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        Ok(vec![Verdict::Accepted; batch.len()])
    }
}
