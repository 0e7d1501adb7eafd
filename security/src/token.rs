//! Tokens: admission for somebody who has no certificate yet.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::Pin;
use crate::secret::{Secret, random_hex};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Compute.
    Worker,
    /// Submit jobs and data, change jobs, and all that a viewer may.
    Submitter,
    /// Look.
    Viewer,
    /// Everything, tokens and revocation included.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Worker, Role::Submitter, Role::Viewer, Role::Admin];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Worker => "worker",
            Role::Submitter => "submitter",
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let found = Role::ALL.into_iter().find(|role| role.to_string() == text);
        found.ok_or_else(|| TokenError::UnknownRole(text.to_owned()))
    }
}

/// Why a token admits nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token.
    #[error(
        "this is no token: one looks like cvy1.<cluster>.<id>.<secret>; ask for one made with `convoy token create`"
    )]
    Malformed,
    /// No token of this cluster, or its secret is wrong.
    #[error("the cluster does not know this token; ask for a new one")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired; ask for a new one")]
    Expired,
    /// It was used as often as it may.
    #[error("the token was used as often as it may be; ask for a new one")]
    UsedUp,
    /// No such role.
    #[error("`{0}` is no role; there are worker, submitter, viewer and admin")]
    UnknownRole(String),
}

/// What a joiner is given: `cvy1.<pin>.<id>.<secret>`.
#[derive(Debug, Clone)]
pub struct Token {
    /// The cluster that it is of.
    pub pin: Pin,
    /// Which token.
    pub id: String,
    /// What shows that somebody was given it.
    pub secret: Secret,
}

impl Token {
    /// A new token of the cluster with this pin.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn new(pin: Pin) -> Self {
        Token { pin, id: random_hex::<4>(), secret: Secret::random() }
    }

    /// The token as it is handed over.
    pub fn expose(&self) -> String {
        format!("cvy1.{}.{}.{}", self.pin, self.id, self.secret.expose())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let ["cvy1", pin, id, secret] = parts[..] else { return Err(TokenError::Malformed) };
        let hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex(id, 8) || !hex(secret, 32) {
            return Err(TokenError::Malformed);
        }
        let pin = pin.parse().map_err(|_| TokenError::Malformed)?;
        Ok(Token { pin, id: id.to_owned(), secret: Secret::new(secret.to_owned()) })
    }
}

/// What the cluster keeps of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Which token.
    pub id: String,
    /// What whoever comes with it may do.
    pub role: Role,
    /// sha256 of its secret.
    pub secret_hash: String,
    /// Seconds since 1970 after which it admits nobody.
    pub expires_at: u64,
    /// How often it may still be used; `None` for any number of times.
    pub uses_left: Option<u32>,
}

impl TokenRecord {
    /// The record of a new token.
    pub fn new(token: &Token, role: Role, expires_at: u64, uses: Option<u32>) -> Self {
        let (id, secret_hash) = (token.id.clone(), token.secret.hash());
        TokenRecord { id, role, secret_hash, expires_at, uses_left: uses }
    }

    /// Uses the token once, at `now` in seconds since 1970.
    ///
    /// # Errors
    /// When the secret is wrong, or the token is expired or used up; then nothing is changed.
    pub fn redeem(&mut self, secret: &Secret, now: u64) -> Result<(), TokenError> {
        if !secret.has_hash(&self.secret_hash) {
            return Err(TokenError::Unknown);
        }
        if now > self.expires_at {
            return Err(TokenError::Expired);
        }
        match &mut self.uses_left {
            Some(0) => Err(TokenError::UsedUp),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin() -> Pin {
        "ab".repeat(32).parse().unwrap()
    }

    #[test]
    fn a_token_survives_being_handed_over_and_is_not_seen_elsewhere() {
        let token = Token::new(pin());
        let text = token.expose();
        let back: Token = format!(" {text}\n").parse().unwrap();
        assert_eq!(back.expose(), text);
        let secret = token.secret.expose();
        assert!(!format!("{token:?}").contains(secret));
        let record = TokenRecord::new(&token, Role::Worker, 10, None);
        assert!(!format!("{record:?}").contains(secret));
        assert!(!format!("{:?}", text.replace('.', ":").parse::<Token>()).contains(secret));
    }

    #[test]
    fn nonsense_is_no_token() {
        let good = Token::new(pin()).expose();
        let short = &good[..good.len() - 1];
        for text in ["", "cvy1", "cvy1...", &good[1..], short, &format!("{good}.x"), &good.replace("cvy1", "cvy2")] {
            assert_eq!(text.parse::<Token>().unwrap_err(), TokenError::Malformed, "{text}");
        }
    }

    #[test]
    fn a_token_is_used_in_time_and_as_often_as_it_may() {
        let token = Token::new(pin());
        let mut record = TokenRecord::new(&token, Role::Submitter, 100, Some(2));
        assert_eq!(record.redeem(&Secret::random(), 50), Err(TokenError::Unknown));
        assert_eq!(record.redeem(&token.secret, 101), Err(TokenError::Expired));
        assert_eq!(record.uses_left, Some(2), "what was refused does not count");
        assert_eq!(record.redeem(&token.secret, 100), Ok(()));
        assert_eq!(record.redeem(&token.secret, 0), Ok(()));
        assert_eq!(record.redeem(&token.secret, 0), Err(TokenError::UsedUp));
        let mut endless = TokenRecord::new(&token, Role::Worker, 100, None);
        assert!((0..9).all(|_| endless.redeem(&token.secret, 1) == Ok(())));
    }

    #[test]
    fn roles_have_names() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("submitter"));
    }
}
