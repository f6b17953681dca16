//! The limit of open files, and the part of it that the API's connections may take.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Files besides the connections: listeners, the store, zone files, what watches them, the runtime.
const FILES_RESERVED: u64 = 64;

/// Raises the limit of open files as far as this process may, and says how many API connections there can be: as many
/// as the settings say, but at most half of the files without a reserve. The rest is for DNS and the admin port.
pub(super) fn api_connections_max(config: &Config) -> usize {
    let files = raise();
    let asked = config.api_connections_max;
    let granted = granted(asked, files);
    if granted < asked {
        if asked == Config::default().api_connections_max {
            tracing::info!(
                connections = granted,
                files,
                "fewer API connections than the default, for want of open files (ulimit -n)"
            );
        } else {
            tracing::warn!(
                connections = granted,
                asked,
                files,
                "--api-connections-max is more than the open files allow; raise their limit (ulimit -n, LimitNOFILE)"
            );
        }
    }
    granted
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
    fn connections_leave_files_for_dns_and_admin() {
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
