//! The program `cloudmap-dns`: runs the command line of the process with the functions of the server.

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
    // The standard streams are not locked, because other threads may write to them while the server runs.
    cli::run(Invocation::of_process(), hooks, &mut io::stdout(), &mut io::stderr()).into()
}
