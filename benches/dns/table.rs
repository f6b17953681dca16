//! The table of a comparison.

use crate::support::{at_percent, median};

/// One server's row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// CPU time per query: the median of the rounds, in nanoseconds.
    pub(crate) cpu_ns: f64,
    /// The part of it in user space, over all rounds.
    pub(crate) user_part: f64,
    /// The first row's CPU time divided by this one's, by round.
    pub(crate) ratios: Vec<f64>,
    /// How much of its CPU the server used; near 1 it was never without work.
    pub(crate) busy: f64,
    pub(crate) answered: u64,
    pub(crate) lost: u64,
}

pub(crate) fn print_rows(rows: &[Row]) {
    println!(
        "| server               | CPU us/query | user us | kernel us | first / it: median | 10th to 90th | busy | \
         replies | lost |"
    );
    println!(
        "| -------------------- | ------------ | ------- | --------- | ------------------ | ------------ | ---- | \
         ------- | ---- |"
    );
    for row in rows {
        let user = row.cpu_ns * row.user_part;
        println!(
            "| {:20} | {:12.3} | {:7.3} | {:9.3} | {:18.3} | {:5.3}..{:5.3} | {:3.0}% | {:7} | {:4} |",
            row.name,
            row.cpu_ns / 1e3,
            user / 1e3,
            (row.cpu_ns - user) / 1e3,
            median(&row.ratios),
            at_percent(&row.ratios, 10.0),
            at_percent(&row.ratios, 90.0),
            row.busy * 100.0,
            row.answered,
            row.lost,
        );
    }
}
