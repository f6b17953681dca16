//! The `cloudmap-dns` program.

use std::io;
use std::process::ExitCode;

use cloudmap_dns::cli::{self, Hooks, Invocation};

fn main() -> ExitCode {
    let hooks = Hooks {
        serve: |_config| anyhow::bail!("`serve` is not part of this build"),
        check_zones: |_config: &_| Vec::new(),
    };
    // Not locked: while it serves, other threads may write too.
    cli::run(Invocation::of_process(), hooks, &mut io::stdout(), &mut io::stderr()).into()
}
