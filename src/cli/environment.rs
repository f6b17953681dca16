//! Shell text that points AWS clients to the server.
//!
//! The text is for `eval`: each value is quoted, each line ends in a semicolon and comments come last, so that it means
//! the same even where the shell joined its lines.

use std::net::SocketAddr;

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

/// The lines for clients of the API at `api`, an address that they can connect to.
pub(super) fn lines(api: SocketAddr, region: &str, dialect: Dialect) -> String {
    let endpoint = format!("http://{api}");
    let variables = [
        ("AWS_ENDPOINT_URL_SERVICEDISCOVERY", endpoint.as_str()),
        ("AWS_REGION", region),
        ("AWS_DEFAULT_REGION", region),
        // The server wants some credentials to be there, and takes any.
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        // Clients put `data-` before the host of DiscoverInstances, which has no address then.
        ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true"),
        // The CLI would show JSON in a pager.
        ("AWS_PAGER", ""),
    ];
    let mut text: String = variables.iter().map(|(name, value)| dialect.export(name, value)).collect();
    // `localhost` is taken where it is what the server listens on.
    let (host, names) = if api.ip().is_loopback() {
        ("localhost", "data-localhost")
    } else {
        ("cloudmap-dns", "cloudmap-dns data-cloudmap-dns")
    };
    text.push_str(&format!(
        "# DiscoverInstances from a client that puts data- before the host all the same: add this line to /etc/hosts\n\
         #   {} {names}\n\
         # and use the endpoint http://{host}:{}\n",
        api.ip(),
        api.port()
    ));
    text
}
