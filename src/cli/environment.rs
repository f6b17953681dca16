//! Shell text that points AWS clients to the server.
//!
//! The text is for `eval`: each value is quoted, each line ends in a semicolon and comments come last, so that it means
//! the same even where the shell joined its lines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

/// A family of shells with one syntax.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Dialect {
    /// The POSIX shell, bash and zsh.
    #[value(aliases = ["bash", "zsh"])]
    Sh,
    /// The fish shell.
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

/// Time that the resolver of this host has for one name. Without a limit, a name server that does not answer would keep a
/// shell waiting for half a minute.
const LOOKUP_LIMIT: Duration = Duration::from_secs(1);

/// Prefix that SDKs put before the host of DiscoverInstances and DiscoverInstancesRevision.
const HOST_PREFIX: &str = "data-";

/// Lines for clients of the API at `api`, an address that they can connect to.
///
/// The endpoint is a name where `resolve` finds its form with the prefix too, so that DiscoverInstances works from every
/// SDK; an address otherwise, which only clients without the prefix can use.
pub(super) fn lines(
    api: SocketAddr,
    region: &str,
    dialect: Dialect,
    resolve: impl Fn(&str) -> Vec<IpAddr>,
) -> String {
    // Names below `localhost` are loopback addresses (RFC 6761 section 6.3) where systemd-resolved or nss-myhostname looks
    // them up, and unknown elsewhere. `localhost` comes first: only a line in /etc/hosts gives it a form with the prefix,
    // and programs with a resolver of their own read that file too.
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
        // The server wants some credentials to be there, and takes any.
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        // The AWS CLI and boto3 leave the prefix out.
        ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true"),
        // The CLI would show JSON in a pager.
        ("AWS_PAGER", ""),
    ];
    let mut text: String = variables.iter().map(|(name, value)| dialect.export(name, value)).collect();
    text.push_str(&match name {
        Some(name) if *name == names[0] => {
            format!("# {HOST_PREFIX}{name} resolves: DiscoverInstances works from every SDK\n")
        }
        found => {
            let who = if found.is_some() { "a program that does not find this name" } else { "other SDKs" };
            // Every /etc/hosts has `localhost` already.
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

/// Addresses that the resolver of this host returns for a name; none if it has none, or not within a second.
pub fn resolve(name: &str) -> Vec<IpAddr> {
    let (sender, receiver) = mpsc::channel();
    let name = name.to_string();
    thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let addresses: Vec<IpAddr> =
            found.into_iter().flatten().map(|address: SocketAddr| address.ip()).collect();
        // Nobody receives after the limit.
        let _ = sender.send(addresses);
    });
    receiver.recv_timeout(LOOKUP_LIMIT).unwrap_or_default()
}
