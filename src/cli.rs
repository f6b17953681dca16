//! The command line: its commands and their output.
//!
//! `main` calls [`run`] once with the process's arguments and environment, and with [`Hooks`] for the functions of the
//! server. Results go to standard output, and errors go to standard error, each as one line that starts with `error: `.
//! Nothing here reads the process's environment or ends the process, so that tests can run every command.

mod command;
mod environment;
mod http_client;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::Shell;
use serde::{Deserialize, Serialize};

use crate::config::{self, Config, Sources};
pub use command::command;
use environment::Dialect;
pub use environment::resolve;
use http_client::ServerError;

/// The command line, which begins with the name of the program; the environment, including variables of other programs; and
/// the directory in which the settings file and the directory `zones` are searched, which is empty for the working
/// directory.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Invocation {
    pub arguments: Vec<OsString>,
    pub variables: BTreeMap<OsString, OsString>,
    pub directory: PathBuf,
}

/// Functions of the server that the commands call. Tests replace them.
///
/// - `serve` runs the server until the process receives a signal to stop
/// - `check_zones` returns every error in the zone files, each as one line
/// - `export` writes all objects of the store as lines of JSON
/// - `import` reads the lines of an export into the store, and returns a summary for the user
/// - `resolve` returns the addresses that this host's resolver finds for a name
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Hooks<S, Z> {
    pub serve: S,
    pub check_zones: Z,
    pub export: fn(&Config, &mut dyn Write) -> anyhow::Result<()>,
    pub import: fn(&Config, &mut dyn BufRead) -> anyhow::Result<String>,
    pub resolve: fn(&str) -> Vec<IpAddr>,
}

/// Result of the program, from which its exit code follows: 0 for success; 1 if the command failed or `check` found errors;
/// 2 if the arguments or settings are wrong, so that the command was not run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Exit {
    Success,
    Failure,
    Usage,
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Settings(#[from] config::WrongSettings),
    #[error(
        "the API's port is 0, so it is chosen when the server starts; give the real one with --api ADDR:PORT"
    )]
    ApiPortUnknown,
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The text includes the chain of causes, which `anyhow` formats itself.
    #[error("{0:#}")]
    Serve(anyhow::Error),
    #[error("{}", .0.join("\n"))]
    Check(Vec<String>),
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

impl Invocation {
    /// Reads the arguments and the environment of this process.
    pub fn of_process() -> Invocation {
        Invocation {
            arguments: std::env::args_os().collect(),
            variables: std::env::vars_os().collect(),
            directory: PathBuf::new(),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
        })
    }
}

/// Runs the command of the invocation. Results are written to `out`, and errors to `err`.
pub fn run<S, Z>(invocation: Invocation, hooks: Hooks<S, Z>, out: &mut dyn Write, err: &mut dyn Write) -> Exit
where
    S: FnOnce(Config) -> anyhow::Result<()>,
    Z: FnOnce(&Config) -> Vec<String>,
{
    let Invocation { arguments, variables, directory } = invocation;
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(message) if message.use_stderr() => {
            // If standard error is closed, nothing can report it.
            let _ = write!(err, "{}", message.render());
            return Exit::Usage;
        }
        Err(help) => return finish(write!(out, "{}", help.render()).map_err(CommandError::from), out, err),
    };
    let (name, arguments) = matches.subcommand().unwrap_or(("serve", &matches));
    let mut flags = command::flags(&matches);
    flags.extend(command::flags(arguments));
    let sources = Sources { flags, variables, directory };
    let word = |id: &str| arguments.get_one::<String>(id).map_or("", String::as_str);

    let outcome = match name {
        "check" => check(&sources, hooks.check_zones, out),
        "env" => {
            let dialect = arguments.get_one::<Dialect>("shell").copied().unwrap_or(Dialect::Sh);
            print_environment(&sources, dialect, hooks.resolve, out)
        }
        "explain" => {
            query_server(&sources, "/explain", &[("name", word("name")), ("type", word("type"))], out)
        }
        "history" => query_server(&sources, "/history", &[("name", word("name"))], out),
        "maintenance" => {
            let service = arguments.get_one::<String>("service").map(String::as_str);
            let order = MaintenanceOrder {
                instance: word("instance"),
                service,
                maintenance: word("state") == "on",
                reason: word("reason"),
            };
            order_maintenance(&sources, &order, out)
        }
        "zone" => query_server(&sources, "/zone", &[("name", word("name"))], out),
        "export" => config::load(&sources)
            .map_err(CommandError::from)
            .and_then(|config| (hooks.export)(&config, out).map_err(CommandError::Serve)),
        "import" => config::load(&sources).map_err(CommandError::from).and_then(|config| {
            let done = (hooks.import)(&config, &mut io::stdin().lock()).map_err(CommandError::Serve)?;
            // The summary is not a result, so it does not go to standard output.
            writeln!(err, "{done}").map_err(CommandError::from)
        }),
        "completions" => print_completions(arguments.get_one::<Shell>("shell").copied(), out),
        "man" => clap_mangen::Man::new(command()).render(out).map_err(CommandError::from),
        _ => config::load(&sources)
            .map_err(CommandError::from)
            .and_then(|config| (hooks.serve)(config).map_err(CommandError::Serve)),
    };
    finish(outcome, out, err)
}

fn reachable(listener: SocketAddr) -> SocketAddr {
    match listener {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

fn check(
    sources: &Sources,
    check_zones: impl FnOnce(&Config) -> Vec<String>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let (config, mut errors) = match config::load(sources) {
        Ok(config) => (config, Vec::new()),
        Err(wrong) => (*wrong.config, wrong.errors.iter().map(ToString::to_string).collect()),
    };
    errors.extend(check_zones(&config));
    if !errors.is_empty() {
        return Err(CommandError::Check(errors));
    }
    match &config.zones {
        Some(zones) => writeln!(out, "ok: the settings, and the zone files in {}", zones.display())?,
        None => writeln!(out, "ok: the settings; there are no zone files")?,
    }
    Ok(())
}

fn print_environment(
    sources: &Sources,
    dialect: Dialect,
    resolve: fn(&str) -> Vec<IpAddr>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let config = config::load(sources)?;
    if config.api.port() == 0 {
        return Err(CommandError::ApiPortUnknown);
    }
    let lines = environment::lines(reachable(config.api), &config.region, dialect, resolve);
    out.write_all(lines.as_bytes())?;
    Ok(())
}

/// Queries the admin port of the running server, and prints the response.
fn query_server(
    sources: &Sources,
    path: &str,
    query: &[(&str, &str)],
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let config = config::load(sources)?;
    let body = http_client::get(reachable(config.admin), path, query)?;
    out.write_all(&body)?;
    if !body.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The body of an order to the API's port.
#[derive(Serialize)]
struct MaintenanceOrder<'a> {
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    maintenance: bool,
    reason: &'a str,
}

/// The response to an order.
#[derive(Deserialize)]
struct MaintenanceDone {
    services: Vec<ServiceDone>,
}

#[derive(Deserialize)]
struct ServiceDone {
    id: String,
    name: String,
    maintenance: bool,
}

/// Puts an instance into maintenance or lifts it, and prints a line for each of its services.
fn order_maintenance(
    sources: &Sources,
    order: &MaintenanceOrder<'_>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let config = config::load(sources)?;
    let address = reachable(config.api);
    let wrong = |error: serde_json::Error| ServerError::not_api(address, error.to_string());
    let body = serde_json::to_string(order).map_err(wrong)?;
    let done = http_client::put(address, "/maintenance", &body).map_err(ServerError::with_message)?;
    let done: MaintenanceDone = serde_json::from_slice(&done).map_err(wrong)?;
    for ServiceDone { id, name, maintenance } in done.services {
        let instance = order.instance;
        if order.maintenance {
            let of = order.service.map(|_| format!(" --service {id}")).unwrap_or_default();
            let lift = format!("cloudmap-dns maintenance off {instance}{of}");
            writeln!(out, "{instance} of {name} ({id}) is in maintenance, until `{lift}`")?;
        } else if maintenance {
            let why = "its pod has the annotation cloudmap-dns.io/maintenance";
            writeln!(out, "{instance} of {name} ({id}) is still in maintenance: {why}")?;
        } else {
            writeln!(out, "{instance} of {name} ({id}) is not in maintenance")?;
        }
    }
    Ok(())
}

fn print_completions(shell: Option<Shell>, out: &mut dyn Write) -> Result<(), CommandError> {
    // The script is generated in memory first, because the generator panics if `out` is a closed pipe.
    let mut script = Vec::new();
    if let Some(shell) = shell {
        clap_complete::generate(shell, &mut command(), "cloudmap-dns", &mut script);
    }
    out.write_all(&script)?;
    Ok(())
}

/// Flushes the output, reports the error of a command, and returns the exit code that follows from it.
fn finish(outcome: Result<(), CommandError>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let written = out.flush().map_err(CommandError::from);
    let Err(error) = outcome.and(written) else { return Exit::Success };
    let exit = match &error {
        // A reader such as `head` may close the pipe early, which is no error.
        CommandError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Success,
        CommandError::Settings(_) | CommandError::ApiPortUnknown => Exit::Usage,
        _ => Exit::Failure,
    };
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    for line in text.lines() {
        // If standard error is closed, nothing can report it.
        let _ = match &error {
            CommandError::Server(ServerError::Status { .. }) => writeln!(err, "{line}"),
            _ => writeln!(err, "error: {line}"),
        };
    }
    exit
}

#[cfg(test)]
mod tests;
