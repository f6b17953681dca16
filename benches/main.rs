//! Benches: `cargo bench` runs all, `cargo bench -- api` or `-- scale` one. They print what they measure.

mod api;
mod scale;
mod support;

fn main() {
    // cargo adds `--bench`; what is left names benches.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if is_wanted("api") {
        api::run();
    }
    if is_wanted("scale") {
        scale::run();
    }
}
