//! Limits of the writes of one batch.

/// Time limits of a batch, in milliseconds: shorter than the timeout of an API request, and shorter still while the
/// API server is known to be unreachable.
pub(super) const BATCH_MS_MAX: u64 = 10_000;
pub(super) const BATCH_MS_MAX_UNREACHABLE: u64 = 1_500;
pub(super) const WRITES_MAX: usize = 32;
/// Time after a lost race in which the watch should deliver the winner, in milliseconds.
pub(in crate::store::kubernetes) const WINNER_MS_MAX: u64 = 500;
