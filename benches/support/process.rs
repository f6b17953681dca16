//! CPU time and memory of a process with all its threads and children, from procfs.

use std::fs;

/// CPU time that was used. `total_ns` is the scheduler's exact count. The parts in user space and in the kernel are in
/// clock ticks, which the kernel samples at each tick of its timer, so they are good for sums over seconds and not for a
/// single round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    pub(crate) total_ns: u64,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
}

impl std::ops::Sub for CpuTime {
    type Output = CpuTime;

    fn sub(self, before: CpuTime) -> CpuTime {
        CpuTime {
            total_ns: self.total_ns - before.total_ns,
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
        }
    }
}

impl std::ops::AddAssign for CpuTime {
    fn add_assign(&mut self, more: CpuTime) {
        self.total_ns += more.total_ns;
        self.user_ticks += more.user_ticks;
        self.system_ticks += more.system_ticks;
    }
}

/// A process and those descendants that it had when [`ProcessTree::of`] was called.
pub(crate) struct ProcessTree {
    ids: Vec<u32>,
}

impl ProcessTree {
    pub(crate) fn of(id: u32) -> ProcessTree {
        let mut ids = vec![id];
        let mut at = 0;
        while at < ids.len() {
            let id = ids[at];
            for thread in threads(id) {
                let children =
                    fs::read_to_string(format!("/proc/{id}/task/{thread}/children")).unwrap_or_default();
                ids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        ProcessTree { ids }
    }

    pub(crate) fn cpu_time(&self) -> CpuTime {
        let mut total = CpuTime::default();
        for id in &self.ids {
            for thread in threads(*id) {
                let schedstat =
                    fs::read_to_string(format!("/proc/{id}/task/{thread}/schedstat")).unwrap_or_default();
                total.total_ns += number(schedstat.split_whitespace().next());
            }
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            total.user_ticks += number(fields.nth(11));
            total.system_ticks += number(fields.next());
        }
        total
    }
}

impl ProcessTree {
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.ids.iter().map(|id| status_bytes(*id, "VmRSS:")).sum()
    }
}

pub(crate) fn status_bytes(id: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("procfs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the line");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kib * 1024
}

fn threads(id: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn number(field: Option<&str>) -> u64 {
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Pins the calling thread, and the threads that it starts later, to one CPU.
pub(crate) fn pin(cpu: usize) {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(cpu).expect("a CPU number");
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).expect("the CPU exists");
}
