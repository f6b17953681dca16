//! The `cloudmap-dns` program.

use std::io;
use std::process::ExitCode;

use cloudmap_dns::app;
use cloudmap_dns::cli::{self, Hooks, Invocation};

fn main() -> ExitCode {
    let hooks = Hooks {
        serve: app::run,
        check_zones: app::check_zones,
        export: app::export,
        import: app::import,
        resolve: cli::resolve,
    };
    // Not locked: while it serves, other threads may write too.
    cli::run(Invocation::of_process(), hooks, &mut io::stdout(), &mut io::stderr()).into()
}
