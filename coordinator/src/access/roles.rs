//! Which roles may call which method. What is not in the table is denied.

use convoy_proto::channel::{DATA_LIMIT, MESSAGE_LIMIT, PEER_MESSAGE, SMALL, SPEC_LIMIT};
use convoy_security::Role;

use super::caller::Caller;

const VIEW: &[Role] = &[Role::Viewer, Role::Submitter, Role::Admin];
const SUBMIT: &[Role] = &[Role::Submitter, Role::Admin];
const WORK: &[Role] = &[Role::Worker];
const MANAGE: &[Role] = &[Role::Admin];

/// Who may call a method.
enum Who {
    /// Everybody, also without a certificate.
    Anybody,
    /// Every member.
    Members,
    /// Members of these roles.
    Roles(&'static [Role]),
}

/// A method and its bounds.
pub(crate) struct Method {
    /// Its path.
    pub(crate) path: &'static str,
    who: Who,
    /// Calls that one caller may have in flight.
    pub(crate) calls: usize,
    /// Largest message of a call, in bytes.
    pub(crate) message: usize,
}

impl Method {
    /// Whether a call may send nothing for as long as it likes, since whoever serves it looks after that.
    pub(crate) fn may_be_silent(&self) -> bool {
        ["/convoy.v1.Coordinator/PushNode", "/convoy.v1.Coordinator/Roots"].contains(&self.path)
    }

    /// Whether people call it, about jobs and data; workers have calls and memory of their own.
    pub(crate) fn is_of_people(&self) -> bool {
        self.path.starts_with("/convoy.v1.Jobs/") || self.path.starts_with("/convoy.v1.Data/")
    }
}

const fn method(path: &'static str, who: Who, calls: usize, message: usize) -> Method {
    Method { path, who, calls, message }
}

/// All methods, in the order of the `.proto` files.
const METHODS: &[Method] = &[
    method("/convoy.v1.Coordinator/Control", Who::Roles(WORK), 4096, SMALL),
    method("/convoy.v1.Coordinator/Plan", Who::Roles(WORK), 8, SMALL),
    method("/convoy.v1.Coordinator/Parameters", Who::Roles(WORK), 16, SMALL),
    method("/convoy.v1.Coordinator/Files", Who::Roles(WORK), 8, SMALL),
    method("/convoy.v1.Coordinator/PushNode", Who::Roles(WORK), 16, MESSAGE_LIMIT),
    method("/convoy.v1.Coordinator/State", Who::Roles(WORK), 8, SMALL),
    method("/convoy.v1.Coordinator/Roots", Who::Roles(WORK), 8, PEER_MESSAGE),
    method("/convoy.v1.Coordinator/Kept", Who::Roles(WORK), 16, PEER_MESSAGE),
    method("/convoy.v1.Coordinator/Brought", Who::Roles(WORK), 16, MESSAGE_LIMIT),
    method("/convoy.v1.Jobs/Submit", Who::Roles(SUBMIT), 8, SPEC_LIMIT),
    method("/convoy.v1.Jobs/List", Who::Roles(VIEW), 64, SMALL),
    method("/convoy.v1.Jobs/Workers", Who::Roles(VIEW), 64, SMALL),
    method("/convoy.v1.Jobs/Watch", Who::Roles(VIEW), 64, SMALL),
    method("/convoy.v1.Jobs/Logs", Who::Roles(VIEW), 64, SMALL),
    method("/convoy.v1.Jobs/Stop", Who::Roles(SUBMIT), 64, SMALL),
    method("/convoy.v1.Jobs/Pause", Who::Roles(SUBMIT), 64, SMALL),
    method("/convoy.v1.Jobs/Resume", Who::Roles(SUBMIT), 64, SMALL),
    method("/convoy.v1.Jobs/Remove", Who::Roles(SUBMIT), 64, SMALL),
    method("/convoy.v1.Jobs/Fetch", Who::Roles(VIEW), 16, SMALL),
    method("/convoy.v1.Jobs/Health", Who::Members, 64, SMALL),
    method("/convoy.v1.Data/Missing", Who::Roles(SUBMIT), 16, DATA_LIMIT),
    method("/convoy.v1.Data/Push", Who::Roles(SUBMIT), 16, DATA_LIMIT),
    method("/convoy.v1.Data/Commit", Who::Roles(SUBMIT), 8, DATA_LIMIT),
    method("/convoy.v1.Data/ListData", Who::Roles(VIEW), 64, SMALL),
    method("/convoy.v1.Data/RemoveData", Who::Roles(SUBMIT), 16, SMALL),
    method("/convoy.v1.Access/Join", Who::Anybody, 4, SMALL),
    method("/convoy.v1.Access/Renew", Who::Members, 16, SMALL),
    method("/convoy.v1.Access/CreateToken", Who::Roles(MANAGE), 64, SMALL),
    method("/convoy.v1.Access/ListTokens", Who::Roles(MANAGE), 64, SMALL),
    method("/convoy.v1.Access/RemoveToken", Who::Roles(MANAGE), 64, SMALL),
    method("/convoy.v1.Access/ListMembers", Who::Roles(MANAGE), 64, SMALL),
    method("/convoy.v1.Access/Revoke", Who::Roles(MANAGE), 64, SMALL),
];

/// The method at `path`.
pub(crate) fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

/// Why `caller` may not call `method`; `None` when it may.
pub(crate) fn denial(caller: &Caller, method: &str) -> Option<String> {
    let Some(Method { who, .. }) = find(method) else {
        return Some(format!("there is no method {method}"));
    };
    match (who, caller) {
        (_, Caller::Local) | (Who::Anybody, _) | (Who::Members, Caller::Member { .. }) => None,
        (_, Caller::Stranger) => Some(
            "this needs a certificate of the cluster; join it with a token: `convoy login HOST:PORT --token-file FILE`"
                .to_owned(),
        ),
        (Who::Roles(roles), Caller::Member { role, .. }) if roles.contains(role) => None,
        (Who::Roles(roles), Caller::Member { role, .. }) => {
            let roles: Vec<String> = roles.iter().map(Role::to_string).collect();
            Some(format!("a {role} may not do this, only: {}; ask the cluster's admin for a token", roles.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The methods that the `.proto` files name.
    fn declared() -> Vec<String> {
        let mut found = Vec::new();
        for text in [include_str!("../../../proto/convoy.proto"), include_str!("../../../proto/cluster.proto")] {
            let mut service = "";
            for line in text.lines().map(str::trim) {
                let word = |prefix: &str| line.strip_prefix(prefix)?.split([' ', '(']).next();
                service = word("service ").unwrap_or(service);
                found.extend(word("rpc ").map(|method| format!("/convoy.v1.{service}/{method}")));
            }
        }
        found
    }

    #[test]
    fn every_method_is_in_the_table() {
        let table: Vec<&str> = METHODS.iter().map(|method| method.path).collect();
        assert_eq!(table, declared());
    }

    #[test]
    fn each_role_may_do_what_the_table_says_and_nothing_else() {
        let may = |caller: &Caller| -> Vec<String> {
            let names = declared().into_iter().filter(|method| denial(caller, method).is_none());
            names.map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect()
        };
        let member = |role| Caller::Member { id: 1, name: "somebody".to_owned(), role };
        assert_eq!(may(&Caller::Stranger), ["Join"]);
        assert_eq!(
            may(&member(Role::Worker)),
            [
                "Control",
                "Plan",
                "Parameters",
                "Files",
                "PushNode",
                "State",
                "Roots",
                "Kept",
                "Brought",
                "Health",
                "Join",
                "Renew"
            ]
        );
        let viewer = ["List", "Workers", "Watch", "Logs", "Fetch", "Health", "ListData", "Join", "Renew"];
        assert_eq!(may(&member(Role::Viewer)), viewer);
        let submitter = [
            "Submit",
            "List",
            "Workers",
            "Watch",
            "Logs",
            "Stop",
            "Pause",
            "Resume",
            "Remove",
            "Fetch",
            "Health",
            "Missing",
            "Push",
            "Commit",
            "ListData",
            "RemoveData",
            "Join",
            "Renew",
        ];
        assert_eq!(may(&member(Role::Submitter)), submitter);
        assert_eq!(may(&member(Role::Admin)).len(), declared().len() - WORKER_ONLY);
        assert_eq!(
            may(&Caller::Local),
            declared().iter().map(|m| m.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
        );
        assert!(denial(&member(Role::Admin), "/convoy.v1.Jobs/Anything").is_some(), "unknown methods are denied");
    }

    /// Control, Plan, Parameters, Files, PushNode, State, Roots, Kept, Brought.
    const WORKER_ONLY: usize = 9;
}
