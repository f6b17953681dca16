//! The limit of open files, and the part of it that the API's connections may take.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Files besides the connections: listeners, the store, zone files, what watches them, the runtime.
const FILES_RESERVED: u64 = 64;

/// How many connections there can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Connections {
    /// Of the API.
    pub(super) api: usize,
    /// Of DNS over TCP.
    pub(super) dns: usize,
}

/// Raises the limit of open files as far as this process may, and says how many connections there can be: as many as the
/// settings say, but for the API and for DNS at most half of the files each, without a reserve for everything else.
pub(super) fn connections(config: &Config) -> Connections {
    let files = raise();
    let default = Config::default();
    let api = ("--api-connections-max", config.api_connections_max, default.api_connections_max);
    let dns = ("--tcp-connections-max", config.tcp_connections_max, default.tcp_connections_max);
    Connections { api: granted_aloud(api, files), dns: granted_aloud(dns, files) }
}

/// The connections for which there are files, and a line in the log when they are fewer than asked for.
fn granted_aloud((setting, asked, default): (&str, usize, usize), files: u64) -> usize {
    let connections = granted(asked, files);
    if connections < asked && asked == default {
        tracing::info!(
            setting,
            connections,
            files,
            "fewer connections than the default, for want of open files (ulimit -n)"
        );
    } else if connections < asked {
        tracing::warn!(
            setting,
            connections,
            asked,
            files,
            "more connections are asked for than open files allow; raise their limit (ulimit -n, LimitNOFILE)"
        );
    }
    connections
}

/// The connections of `asked` for which there are files.
fn granted(asked: usize, files: u64) -> usize {
    let share = (files / 2).saturating_sub(FILES_RESERVED).max(1);
    asked.min(usize::try_from(share).unwrap_or(usize::MAX))
}

/// Makes the soft limit of open files the hard one. What it is then.
fn raise() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                tracing::info!(%error, files = soft, "the limit of open files could not be raised");
                soft
            }
        },
        Ok((soft, _)) => soft,
        // Nothing is known, so nothing is held back.
        Err(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_each_other_and_the_rest() {
        let default = Config::default().api_connections_max;
        assert_eq!(granted(default, 16_384), default);
        assert_eq!(granted(default, u64::MAX), default);
        assert_eq!(granted(default, 1024), 448);
        assert_eq!(granted(10, 1024), 10);
        assert_eq!(granted(default, 20), 1);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
