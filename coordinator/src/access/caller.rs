//! Who calls.

use convoy_security::Role;

/// Who is behind a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on this machine, over a plain connection on loopback.
    Local,
    /// Somebody without a certificate.
    Stranger,
    /// A member of the cluster.
    Member {
        /// Its number.
        id: u64,
        /// Its name.
        name: String,
        /// What it may do.
        role: Role,
    },
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Local => f.write_str("local"),
            Caller::Stranger => f.write_str("a stranger"),
            Caller::Member { id, name, .. } => write!(f, "{name} ({id})"),
        }
    }
}

impl Caller {
    /// The machine of a worker that this caller runs, by which failures and votes are counted: a member of the cluster
    /// is one, whatever its workers call themselves and however many connections they have. On loopback, where all is
    /// this machine's user, it is the `process` that the worker says it is.
    pub fn machine(&self, process: &str) -> String {
        match self {
            Caller::Member { id, .. } => format!("member {id}"),
            Caller::Local | Caller::Stranger => {
                format!("process {}", process.chars().filter(|c| !c.is_control()).take(64).collect::<String>())
            }
        }
    }

    /// Whether both are the same identity, whatever certificate it shows.
    pub fn is(&self, other: &Caller) -> bool {
        match (self, other) {
            (Caller::Member { id, .. }, Caller::Member { id: other, .. }) => id == other,
            (Caller::Local, Caller::Local) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_one_machine_and_on_loopback_a_process_is() {
        let member = |name: &str| Caller::Member { id: 7, name: name.to_owned(), role: Role::Worker };
        assert_eq!([member("ox").machine("1"), member("yak").machine("2")], ["member 7", "member 7"]);
        assert_eq!([Caller::Local.machine("1"), Caller::Local.machine("2\n")], ["process 1", "process 2"]);
        assert_ne!(Caller::Local.machine("member 7"), member("ox").machine(""), "nobody says that it is a member");
    }
}
