//! A persistent table with small numbers as keys, in which a node's zone is found by its number.
//!
//! Clones share all memory. A change copies the list of parts (one pointer for every 64 numbers in use) and one part of 64
//! pointers to values.

use std::sync::Arc;

const PART_NUMBERS: usize = 64;

pub(super) struct NumberTable<T> {
    parts: Arc<Vec<Arc<Part<T>>>>,
}

type Part<T> = [Option<Arc<T>>; PART_NUMBERS];

impl<T> NumberTable<T> {
    #[inline(always)]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.parts.get(number / PART_NUMBERS)?[number % PART_NUMBERS].as_deref()
    }

    pub(super) fn set(&mut self, number: u32, value: Option<Arc<T>>) {
        let number = number as usize;
        let parts = Arc::make_mut(&mut self.parts);
        while parts.len() <= number / PART_NUMBERS {
            parts.push(Arc::new([const { None }; PART_NUMBERS]));
        }
        Arc::make_mut(&mut parts[number / PART_NUMBERS])[number % PART_NUMBERS] = value;
    }
}

impl<T> Clone for NumberTable<T> {
    fn clone(&self) -> NumberTable<T> {
        NumberTable { parts: self.parts.clone() }
    }
}

impl<T> Default for NumberTable<T> {
    fn default() -> NumberTable<T> {
        NumberTable { parts: Arc::default() }
    }
}
