//! Membership of a cluster: who this machine is there, joining with a token, renewing in time.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoy_proto::channel::Link;
use convoy_proto::v1;
use convoy_security::{ConnectError, Identity, NewKey, Pin, Secret, Token};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tonic::Status;

use crate::environment;
use crate::error::{CliError, answer};

const FILE: &str = "cluster.json";
const NAME: &str = "member";

/// The cluster that somebody has logged in to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Home {
    /// The coordinator, `HOST:PORT`.
    pub coordinator: String,
    /// What the cluster is known by.
    pub cluster: Pin,
    /// When to renew, in seconds since 1970.
    pub renew_at: u64,
}

impl Home {
    /// Where it is kept: `$CONVOY_HOME`, or `convoy` in the user's folder of settings.
    pub fn folder() -> PathBuf {
        Home::folder_by(environment::folder)
    }

    /// [`Home::folder`], where `set` looks up a variable of the environment.
    fn folder_by(set: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
        set("CONVOY_HOME")
            .or_else(|| set("XDG_CONFIG_HOME").map(|folder| folder.join("convoy")))
            .or_else(|| set("HOME").map(|folder| folder.join(".config").join("convoy")))
            .unwrap_or_else(|| PathBuf::from(".convoy"))
    }

    /// The cluster in `folder`, and who one is there; `None` where nobody has logged in.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn load(folder: &Path) -> Result<Option<(Home, Identity)>, CliError> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CliError::Io { path, source }),
        };
        let home = serde_json::from_str(&text).map_err(|error| {
            CliError::Usage(format!("{}: {error}; log in again with `convoy login`", path.display()))
        })?;
        Ok(Some((home, Identity::load(folder, NAME)?)))
    }

    /// Keeps cluster and identity in `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, folder: &Path, identity: &Identity) -> Result<(), CliError> {
        identity.save(folder, NAME)?;
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self).expect("it is plain data");
        fs::write(&path, text + "\n").map_err(|source| CliError::Io { path, source })
    }
}

/// An identity that was just signed, and how long it is good for.
pub struct Signed {
    /// The identity.
    pub identity: Identity,
    /// What it may do.
    pub role: String,
    /// Life of its certificate.
    pub life: Duration,
}

impl Signed {
    fn of(key: NewKey, reply: v1::CertificateReply) -> Result<Self, CliError> {
        let identity = key.with(reply.chain_pem)?;
        Ok(Signed { identity, role: reply.role, life: Duration::from_secs(reply.seconds) })
    }

    /// When to renew it, in seconds since 1970.
    pub fn renew_at(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (now + Identity::renew_after(self.life)).as_secs()
    }
}

/// Why somebody did not become a member.
pub enum JoinError {
    /// The coordinator is not there yet.
    Unreachable(String),
    /// It said no, or is not trusted.
    Fatal(CliError),
}

impl From<CliError> for JoinError {
    fn from(error: CliError) -> Self {
        JoinError::Fatal(error)
    }
}

impl From<ConnectError> for JoinError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable(reason) => JoinError::Unreachable(reason),
            ConnectError::TimedOut => JoinError::Unreachable(error.to_string()),
            error => JoinError::Fatal(error.into()),
        }
    }
}

impl From<Status> for JoinError {
    fn from(status: Status) -> Self {
        match status.code() {
            tonic::Code::Unavailable => JoinError::Unreachable(status.message().to_owned()),
            _ => JoinError::Fatal(answer(&status)),
        }
    }
}

/// Joins the cluster of `token` at `address`.
///
/// # Errors
/// When the coordinator is not there, not of that cluster, or does not take the token.
pub async fn join(address: &str, token: &Token, name: &str) -> Result<Signed, JoinError> {
    let key = NewKey::generate().map_err(CliError::from)?;
    let public_key = key.public().map_err(CliError::from)?.bytes().to_vec();
    let link = Link::member(address.to_owned(), token.pin, None);
    let request = v1::JoinRequest { token: token.expose(), public_key: public_key.into(), name: name.to_owned() };
    let reply = link.access().await?.join(request).await?.into_inner();
    Ok(Signed::of(key, reply)?)
}

/// Asks for a new certificate.
///
/// # Errors
/// As [`join`].
pub async fn renew(link: &Link) -> Result<Signed, JoinError> {
    let key = NewKey::generate().map_err(CliError::from)?;
    let public_key = key.public().map_err(CliError::from)?.bytes().to_vec();
    let reply = link.access().await?.renew(v1::RenewRequest { public_key: public_key.into() }).await?.into_inner();
    Ok(Signed::of(key, reply)?)
}

/// Renews the identity in `link` whenever it is time, for as long as somebody uses it. The first one lives for `life`.
pub async fn keep_fresh(link: watch::Sender<Link>, mut life: Duration) {
    let mut wait = Identity::renew_after(life);
    loop {
        passed(wait).await;
        let now = link.borrow().clone();
        match renew(&now).await {
            Ok(signed) => {
                life = signed.life;
                wait = Identity::renew_after(life);
                let cluster = now.cluster.map(|(pin, _)| (pin, Some(signed.identity)));
                link.send_replace(Link { cluster, ..now });
                tracing::info!("the certificate was renewed");
            }
            Err(JoinError::Unreachable(reason)) => {
                tracing::debug!(reason, "the certificate was not renewed; trying again");
                wait = renew_again_after(life);
            }
            Err(JoinError::Fatal(error)) => {
                tracing::warn!(%error, "the certificate was not renewed; trying again");
                wait = renew_again_after(life);
            }
        }
    }
}

/// Before a certificate that lives for `life` is asked for again: often enough that several attempts fit into the third
/// of its life that is left.
fn renew_again_after(life: Duration) -> Duration {
    (life / 20).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// Longest time between two looks at the clock.
const LOOK: Duration = Duration::from_secs(60);

/// Waits for `time` of the clock, which goes on while the machine sleeps; timers do not.
async fn passed(time: Duration) {
    let begun = std::time::SystemTime::now();
    while let Some(left) = time.checked_sub(begun.elapsed().unwrap_or_default()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// Writes a line that only the file's owner may read. It appears whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<(), CliError> {
    let fail = |source| CliError::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(fail)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    writeln!(file, "{text}").map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

/// The secret by which processes of this user know each other on this machine, where a coordinator has no cluster. It is
/// kept in `folder`, and made if it is missing.
///
/// # Errors
/// When it cannot be kept, is damaged, or can be read by others.
pub fn user_secret(folder: &Path) -> Result<Secret, CliError> {
    let path = folder.join("local.secret");
    let fail = |source| CliError::Io { path: path.clone(), source };
    if !path.exists() {
        fs::create_dir_all(folder).map_err(fail)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
        writeln!(file, "{}", Secret::random().expose()).map_err(fail)?;
        match file.persist_noclobber(&path) {
            // Another process was first.
            Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(fail(error.error)),
            _ => {}
        }
    }
    let text = fs::read_to_string(&path).map_err(fail)?;
    let private = fs::metadata(&path).map_err(fail)?.permissions().mode() & 0o077 == 0;
    let text = text.trim();
    if !private || text.len() < 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let what = if private { "is damaged" } else { "can be read by others" };
        return Err(CliError::Usage(format!("{} {what}; remove it, and a new one is made", path.display())));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Reads a token from the file at `path`, or from standard input for `-`.
///
/// # Errors
/// When it cannot be read or is none.
pub fn read_token(path: &Path) -> Result<Token, CliError> {
    let text = match path.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => fs::read_to_string(path),
    };
    let text = text.map_err(|source| CliError::Io { path: path.to_owned(), source })?;
    text.parse().map_err(|error: convoy_security::TokenError| CliError::Usage(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn an_identity_is_kept_where_settings_are() {
        let folder = |set: &[(&str, &str)]| {
            Home::folder_by(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let all = [("CONVOY_HOME", "/c"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(folder(&all), Path::new("/c"));
        assert_eq!(folder(&all[1..]), Path::new("/x/convoy"));
        assert_eq!(folder(&all[2..]), Path::new("/h/.config/convoy"));
        assert_eq!(folder(&[]), Path::new(".convoy"));
    }

    #[test]
    fn a_login_is_read_as_it_was_kept() {
        let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(Home::load(folder.path()).unwrap().is_none());
        let identity = convoy_coordinator::init_cluster(state.path(), &[]).unwrap();
        let home = Home { coordinator: "box:7070".to_owned(), cluster: identity.pin(), renew_at: 7 };
        home.save(folder.path(), &identity).unwrap();
        let (read, who) = Home::load(folder.path()).unwrap().expect("somebody has logged in");
        assert_eq!((read.coordinator, read.cluster, read.renew_at), (home.coordinator, home.cluster, 7));
        assert_eq!(who.pin(), identity.pin());
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Home::load(folder.path()).expect_err("the file is damaged");
        assert!(error.to_string().ends_with("log in again with `convoy login`"), "{error}");
    }

    #[test]
    fn a_secret_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("token");
        write_secret(&path, "secret").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_secret_of_a_user_is_made_once_and_is_the_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("home");
        let first = user_secret(&folder).unwrap();
        assert!(user_secret(&folder).unwrap().is(&first));
        let path = folder.join("local.secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = user_secret(&folder).unwrap_err();
        assert!(error.to_string().contains("can be read by others"), "{error}");
        fs::remove_file(&path).unwrap();
        write_secret(&path, "nonsense").unwrap();
        assert!(user_secret(&folder).unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn a_token_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert_eq!(read_token(&path).err().map(|error| error.exit_code()), Some(3));
        fs::write(&path, "no token").unwrap();
        let error = read_token(&path).expect_err("it is no token");
        assert!(error.to_string().starts_with(&format!("{}: this is no token", path.display())), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn only_a_coordinator_that_is_away_is_tried_again() {
        let away = |error: JoinError| matches!(error, JoinError::Unreachable(_));
        assert!(away(Status::unavailable("away").into()));
        assert!(away(ConnectError::Unreachable("away".to_owned()).into()));
        assert!(away(ConnectError::TimedOut.into()));
        assert!(!away(ConnectError::WrongPin.into()));
        for code in [Code::PermissionDenied, Code::Unauthenticated, Code::Internal] {
            assert!(!away(Status::new(code, "no").into()), "{code:?}");
        }
    }

    #[test]
    fn several_attempts_to_renew_fit_into_the_rest_of_a_life() {
        let seconds = |life: u64| renew_again_after(Duration::from_secs(life)).as_secs();
        assert_eq!([seconds(2), seconds(60), seconds(600), seconds(86_400)], [1, 3, 30, 60]);
    }
}
