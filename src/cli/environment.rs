//! Shell commands that set the environment variables with which AWS clients use this server.
//!
//! The text is meant for `eval`. Each value is quoted, each command ends with a semicolon, and comments come last, so that
//! the text also works if the shell has joined its lines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

/// A family of shells with a common syntax: `Sh` are the POSIX shell, bash and zsh.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Dialect {
    #[value(aliases = ["bash", "zsh"])]
    Sh,
    Fish,
}

impl Dialect {
    fn export(self, name: &str, value: &str) -> String {
        match self {
            Dialect::Sh => format!("export {name}='{}';\n", value.replace('\'', r"'\''")),
            Dialect::Fish => {
                format!("set -gx {name} '{}';\n", value.replace('\\', r"\\").replace('\'', r"\'"))
            }
        }
    }
}

/// Time that the resolver of this host has for one name. Without this limit, the user's shell would wait for half a minute
/// if a name server does not answer.
const LOOKUP_LIMIT: Duration = Duration::from_secs(1);

/// Prefix that SDKs put before the host of DiscoverInstances and DiscoverInstancesRevision.
const HOST_PREFIX: &str = "data-";

/// Returns the commands for clients of the API at `api`, an address that they can connect to.
///
/// The endpoint is a host name if `resolve` finds both the name and the name with [`HOST_PREFIX`], so that
/// DiscoverInstances works from every SDK. Otherwise it is an address, which works only for clients that omit the prefix.
pub(super) fn lines(
    api: SocketAddr,
    region: &str,
    dialect: Dialect,
    resolve: impl Fn(&str) -> Vec<IpAddr>,
) -> String {
    // Subdomains of `localhost` resolve to loopback (RFC 6761 §6.3) only with systemd-resolved or nss-myhostname.
    // `localhost` itself is tried first: `data-localhost` exists only as a line in /etc/hosts, which programs with their
    // own resolver read too.
    let is_localhost = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&api.ip());
    let names: &[&str] = if is_localhost { &["localhost", "cloudmap.localhost"] } else { &["cloudmap-dns"] };
    let is_api = |name: &str| resolve(name).contains(&api.ip());
    let name = names.iter().find(|name| is_api(&format!("{HOST_PREFIX}{name}")) && is_api(name));
    let port = api.port();
    let endpoint = name.map_or_else(|| format!("http://{api}"), |name| format!("http://{name}:{port}"));
    let variables = [
        ("AWS_ENDPOINT_URL_SERVICEDISCOVERY", endpoint.as_str()),
        ("AWS_REGION", region),
        ("AWS_DEFAULT_REGION", region),
        // AWS clients do not send a request without credentials. The server accepts any.
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        // Without the injection of a prefix, the AWS CLI and boto3 use this host for DiscoverInstances too.
        ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true"),
        // An empty pager makes the AWS CLI print its output at once.
        ("AWS_PAGER", ""),
    ];
    let mut text: String = variables.iter().map(|(name, value)| dialect.export(name, value)).collect();
    text.push_str(&match name {
        Some(name) if *name == names[0] => {
            format!("# {HOST_PREFIX}{name} resolves: DiscoverInstances works from every SDK\n")
        }
        found => {
            let who = if found.is_some() { "a program that does not find this name" } else { "other SDKs" };
            let first = if is_localhost { String::new() } else { format!("{} ", names[0]) };
            format!(
                "# DiscoverInstances from {who}: add this line to /etc/hosts, and run this command again\n\
                 #   {} {first}{HOST_PREFIX}{}\n",
                api.ip(),
                names[0]
            )
        }
    });
    text
}

/// Looks up a name with the resolver of this host, for at most one second.
pub fn resolve(name: &str) -> Vec<IpAddr> {
    let (sender, receiver) = mpsc::channel();
    let name = name.to_string();
    thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let addresses: Vec<IpAddr> =
            found.into_iter().flatten().map(|address: SocketAddr| address.ip()).collect();
        // The receiver is gone after the time limit.
        let _ = sender.send(addresses);
    });
    receiver.recv_timeout(LOOKUP_LIMIT).unwrap_or_default()
}
