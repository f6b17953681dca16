//! A persistent table by small numbers: where zones are found by the number that their names have.
//!
//! Cloning shares everything; a change copies a list of as many pointers as there are numbers in use, divided by 64, and 64
//! values' pointers.

use std::sync::Arc;

const PART_NUMBERS: usize = 64;

/// Values by their numbers.
pub(super) struct Numbers<T> {
    parts: Arc<Vec<Arc<Part<T>>>>,
}

type Part<T> = [Option<Arc<T>>; PART_NUMBERS];

impl<T> Numbers<T> {
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

impl<T> Clone for Numbers<T> {
    fn clone(&self) -> Numbers<T> {
        Numbers { parts: self.parts.clone() }
    }
}

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers { parts: Arc::default() }
    }
}
