//! Metrics of this process from Linux's `/proc`, under the names that Prometheus' client libraries use.
//!
//! Metrics whose source cannot be read, such as on other systems, are left out.

use std::fs;
use std::sync::OnceLock;

use crate::exposition::Exposition;

/// Values for a kernel whose auxiliary vector has no entry for them: the size of a memory page in bytes, and the frequency
/// of clock ticks.
const PAGE_BYTES_USUAL: u64 = 4096;
const TICKS_PER_SECOND_USUAL: u64 = 100;
/// Keys of the auxiliary vector (`getauxval(3)`): the size of a page, and the frequency of clock ticks.
const AT_PAGESZ: usize = 6;
const AT_CLKTCK: usize = 17;

pub(super) fn collect(out: &mut Exposition) {
    let page = auxiliary(AT_PAGESZ).unwrap_or(PAGE_BYTES_USUAL);
    if let Some([size, resident]) = memory_pages() {
        out.family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.")
            .sample(&[], size * page);
        out.family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
            .sample(&[], resident * page);
    }
    let ticks_per_second = auxiliary(AT_CLKTCK).unwrap_or(TICKS_PER_SECOND_USUAL) as f64;
    let times = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| Times::read(&stat));
    if let Some(times) = times {
        out.family(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
        )
        .sample(&[], times.cpu_ticks as f64 / ticks_per_second);
        // `/proc/stat` is long on a machine with many CPUs, and its boot time never changes, so it is read only once.
        static BOOTED_SECONDS: OnceLock<Option<u64>> = OnceLock::new();
        if let Some(booted) = BOOTED_SECONDS.get_or_init(booted_seconds) {
            out.family(
                "process_start_time_seconds",
                "gauge",
                "Start time of the process since unix epoch in seconds.",
            )
            .sample(&[], *booted as f64 + times.start_ticks as f64 / ticks_per_second);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // The directory itself is open while it is read.
        out.family("process_open_fds", "gauge", "Number of open file descriptors.")
            .sample(&[], files.count().saturating_sub(1));
    }
}

#[derive(Debug, Eq, PartialEq)]
struct Times {
    cpu_ticks: u64,
    start_ticks: u64,
}

impl Times {
    /// Parses the line of `/proc/self/stat` (`proc_pid_stat(5)`). Its second field, the name of the program, may contain
    /// spaces and parentheses, so fields are counted from the last parenthesis.
    fn read(stat: &str) -> Option<Times> {
        let (_, rest) = stat.rsplit_once(") ")?;
        // `rest` begins with field 3; user and system time are the fields 14 and 15.
        let mut fields = rest.split_ascii_whitespace().skip(14 - 3).map(str::parse);
        let user: u64 = fields.next()?.ok()?;
        let system: u64 = fields.next()?.ok()?;
        let start_ticks = fields.nth(22 - 16)?.ok()?;
        Some(Times { cpu_ticks: user + system, start_ticks })
    }
}

fn memory_pages() -> Option<[u64; 2]> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = statm.split_ascii_whitespace().map(str::parse);
    Some([fields.next()?.ok()?, fields.next()?.ok()?])
}

fn booted_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn auxiliary(wanted: usize) -> Option<u64> {
    static VECTOR: OnceLock<Vec<u8>> = OnceLock::new();
    const WORD: usize = size_of::<usize>();
    let words = VECTOR.get_or_init(|| fs::read("/proc/self/auxv").unwrap_or_default()).chunks_exact(WORD);
    let words: Vec<usize> =
        words.map(|word| usize::from_ne_bytes(word.try_into().unwrap_or_default())).collect();
    let entry = words.chunks_exact(2).find(|entry| entry[0] == wanted)?;
    Some(entry[1] as u64).filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_after_a_program_name_with_parentheses() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 123456 1000 10 18446744073709551615";
        assert_eq!(Times::read(stat), Some(Times { cpu_ticks: 300, start_ticks: 123_456 }));
        assert_eq!(Times::read("7 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn metrics_of_this_process_are_plausible() {
        let mut out = Exposition::default();
        collect(&mut out);
        let text = out.into_text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0, "{text}");
        assert!(value("process_open_fds") >= 3.0, "{text}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
