//! The table of a comparison of servers, in Markdown.

use crate::support::{at_percent, median};

/// The row of one server. `cpu_ns` is the CPU time per query in nanoseconds, the median of the rounds, and `user_part` the
/// fraction of it that was spent in user space, over all rounds. `ratios` has the first row's CPU time divided by this
/// row's, for each round. `busy` is the fraction of its CPU that the server used; if it is close to 1, the load always kept
/// the server busy.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) cpu_ns: f64,
    pub(crate) user_part: f64,
    pub(crate) ratios: Vec<f64>,
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
