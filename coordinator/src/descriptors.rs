//! File descriptors: as many as the system gives, and some of them for files alone.

use convoy_security::Limits;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that connections leave for files, whatever comes: checkpoints, journals, stores, logs, data. Where the
/// system gives many, it is a quarter of them.
const FOR_FILES: u64 = 256;
/// What is assumed where the system sets no limit.
const UNLIMITED: u64 = 1 << 20;

/// Takes as many descriptors as the system gives this process, and says how many connections may use.
pub(crate) fn connection_limits() -> Limits {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let (before, asked) = (limit.current, rustix::process::Rlimit { current: limit.maximum, ..limit });
        match setrlimit(Resource::Nofile, asked) {
            Ok(()) => limit.current = limit.maximum,
            Err(error) => tracing::warn!(?before, %error, "no more file descriptors can be had"),
        }
    }
    of(limit.current.unwrap_or(UNLIMITED))
}

/// The connections of a process with so many descriptors.
fn of(descriptors: u64) -> Limits {
    let for_files = (descriptors / 4).max(FOR_FILES).min(descriptors / 2);
    let connections = usize::try_from(descriptors - for_files).unwrap_or(usize::MAX);
    let usual = Limits::default();
    let guests = (connections / 4).min(usual.guests);
    let strangers = (guests / 4).min(usual.strangers);
    let members = (connections - guests - strangers).min(usual.members);
    Limits { guests, strangers, members, per_address: (members - members / 4).min(usual.per_address), ..usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_always_have_descriptors() {
        for descriptors in [8, 64, 256, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
            let limits = of(descriptors);
            let left = descriptors - (limits.guests + limits.strangers + limits.members) as u64;
            assert!(left >= FOR_FILES.min(descriptors / 2), "{descriptors}: {left} are left of {limits:?}");
            assert!(limits.per_address <= limits.members && limits.members > 0, "{limits:?}");
        }
        let (few, many) = (of(1024), of(1 << 20));
        assert_eq!([few.guests, few.strangers, few.members, few.per_address], [192, 48, 528, 396]);
        assert_eq!([many.guests, many.strangers, many.members, many.per_address], [4096, 256, 8192, 4096]);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        connection_limits();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
