//! Benches: `cargo bench` runs all of them, `cargo bench -- api` (or `answer`, `dns`, `dns-scale`, `latency`, `overload`, `pods`,
//! `scale`) one. `benches/README.md` describes what each of them measures and prints.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

mod answer;
mod api;
mod dns;
mod latency;
mod overload;
mod pods;
mod scale;
mod support;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(dns::NULL_RESPONDER) {
        let mut next = || arguments.next().expect("a reply and a loop");
        return dns::be_null_responder(&next(), &next());
    }
    // Arguments without a dash are the names of benches; cargo adds `--bench`.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if is_wanted("answer") {
        answer::run();
    }
    if is_wanted("api") {
        api::run();
    }
    if is_wanted("dns") {
        dns::run();
    }
    if is_wanted("dns-scale") {
        dns::run_at_scale();
    }
    if is_wanted("latency") {
        latency::run();
    }
    if is_wanted("overload") {
        overload::run();
    }
    if is_wanted("pods") {
        pods::run();
    }
    if is_wanted("scale") {
        scale::run();
    }
}
