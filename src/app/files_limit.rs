//! The limit on open files of the process, and the limits on connections that follow from it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::checks::RUNNING_MAX;
use crate::config::Config;

/// Open files that are not connections: those of listeners, the store, zone files and their watches, and the runtime.
const FILES_RESERVED: u64 = 64;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Connections {
    pub(super) api: usize,
    pub(super) dns: usize,
    pub(super) checks: usize,
}

/// Raises the limit on open files to its maximum, and returns the limits on connections. They are those of the settings,
/// but health checks get at most an eighth of the files, where they are on, and the API and DNS each half of the others, minus
/// [`FILES_RESERVED`].
pub(super) fn connections(config: &Config) -> Connections {
    let files = raise();
    let checks =
        if config.checks_allow.is_empty() { 0 } else { RUNNING_MAX.min((files / 8).max(1) as usize) };
    let files = files - checks as u64;
    let default = Config::default();
    let api = ("--api-connections-max", config.api_connections_max, default.api_connections_max);
    let dns = ("--tcp-connections-max", config.tcp_connections_max, default.tcp_connections_max);
    Connections { api: granted_and_logged(api, files), dns: granted_and_logged(dns, files), checks }
}

/// Returns the number of connections that the limit on open files allows, and logs if it is lower than that of the setting.
/// This is a warning only if the setting was changed from its default.
fn granted_and_logged((setting, asked, default): (&str, usize, usize), files: u64) -> usize {
    let connections = granted(asked, files);
    if connections < asked && asked == default {
        tracing::info!(
            setting,
            connections,
            files,
            "the limit on open files (ulimit -n) allows fewer connections than the default"
        );
    } else if connections < asked {
        tracing::warn!(
            setting,
            connections,
            asked,
            files,
            "the limit on open files allows fewer connections than the setting; raise it (ulimit -n, LimitNOFILE)"
        );
    }
    connections
}

fn granted(asked: usize, files: u64) -> usize {
    let share = (files / 2).saturating_sub(FILES_RESERVED).max(1);
    asked.min(usize::try_from(share).unwrap_or(usize::MAX))
}

fn raise() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                tracing::info!(%error, files = soft, "the limit on open files could not be raised");
                soft
            }
        },
        Ok((soft, _)) => soft,
        // An unknown limit does not restrict the settings.
        Err(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_connection_gets_at_most_half_of_the_files() {
        let default = Config::default().api_connections_max;
        assert_eq!(granted(default, 16_384), default);
        assert_eq!(granted(default, u64::MAX), default);
        assert_eq!(granted(default, 1024), 448);
        assert_eq!(granted(10, 1024), 10);
        assert_eq!(granted(default, 20), 1);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_limit() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
