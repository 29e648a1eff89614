//! Who may do what: roles, and the tokens and certificates that have them.
//!
//! Tokens are random and long, so their digests are stored and a file that leaks opens nothing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::Problem;
use super::store::{Store, is_secret, random};
use super::written::check_name;
use crate::cli::tls::{common_name, digest, parse_fingerprint};

/// The file in the state directory.
const FILE: &str = "access.json";
/// Maximum number of entries.
const MAX_ENTRIES: usize = 200;
/// Maximum length of the file.
const MAX_LENGTH: u64 = 256 << 10;
/// Maximum length of a common name (RFC 5280).
const MAX_COMMON_NAME: usize = 64;
/// Longest validity of a token: ten years.
const LONGEST: u64 = 3660 * 86_400;

/// What somebody may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look at machines, their consoles and metrics
    Read,
    /// Start and stop machines, type at consoles, change what a guest sees
    Operate,
    /// Define machines, and decide who may do what: all that the user of the service may
    Administer,
}

impl Role {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }
}

/// What shows that somebody is the one that an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// A token with this SHA-256 digest.
    TokenSha256(String),
    /// A certificate with this SHA-256 fingerprint.
    CertificateSha256(String),
    /// A certificate with this common name.
    CommonName(String),
}

/// A name with its role.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Entry {
    name: String,
    role: Role,
    #[serde(flatten)]
    proof: Proof,
    /// When it was made, in seconds since 1970.
    created: u64,
    /// When it ends.
    expires: Option<u64>,
}

impl Entry {
    fn is_valid(&self, now: u64) -> bool {
        self.expires.is_none_or(|end| now < end)
    }

    /// Returns the entry without what is secret.
    fn to_json(&self) -> Value {
        let mut shown = json!({
            "name": self.name,
            "role": self.role,
            "created": self.created,
            "expires": self.expires,
            "expired": !self.is_valid(now()),
        });
        match &self.proof {
            Proof::TokenSha256(_) => shown["kind"] = "token".into(),
            Proof::CertificateSha256(fingerprint) => {
                shown["kind"] = "certificate".into();
                shown["certificate"] = format!("sha256:{fingerprint}").into();
            }
            Proof::CommonName(name) => {
                shown["kind"] = "common-name".into();
                shown["common-name"] = json!(name);
            }
        }
        shown
    }
}

/// The body of a request for an entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NewEntry {
    /// Its role.
    role: Role,
    /// Time after which it expires.
    expires_seconds: Option<u64>,
    /// Fingerprint of the certificate.
    certificate: Option<String>,
    /// Common name of the certificate.
    common_name: Option<String>,
}

/// The proof by which a caller was let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// The user, or the token of the token file. It is valid as long as the service runs.
    #[default]
    Lasting,
    /// The token of a page.
    Session(String),
    /// The token or the certificate of an entry, which can end.
    Entry(Proof),
}

/// Somebody who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name.
    pub who: String,
    /// The role.
    pub role: Role,
    /// The reason why the caller is known.
    pub by: Credential,
}

impl Caller {
    /// Returns a caller whose right does not end while the service runs.
    pub fn lasting(who: impl Into<String>, role: Role) -> Self {
        Self { who: who.into(), role, by: Credential::Lasting }
    }
}

/// All entries.
#[derive(Debug, Default)]
pub struct Access {
    entries: Vec<Entry>,
}

impl Access {
    /// Reads the entries. There are none if there is no file.
    ///
    /// # Errors
    /// Returns an error if other users can write the file, or if it is broken.
    pub fn load(store: &Store) -> io::Result<Self> {
        let path = path_in(store.path());
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(|error| at(&path, &error.to_string()))?,
        };
        if !is_secret(&metadata) {
            return Err(at(&path, "others can read or write it, or it is no file of this user; chmod 600 it"));
        }
        if metadata.len() > MAX_LENGTH {
            return Err(at(&path, "it is too long; remove it, and viridian access add makes a new one"));
        }
        let text = fs::read(&path).map_err(|error| at(&path, &error.to_string()))?;
        let entries = serde_json::from_slice(&text)
            .map_err(|error| at(&path, &format!("{error}; mend it, or remove it and make new tokens")))?;
        Ok(Self { entries })
    }

    /// Creates or replaces an entry, writes the file, and returns the entry, with its token if it has one.
    ///
    /// # Errors
    /// Returns an error if the request is invalid, or if the file cannot be written. Then nothing has changed.
    pub fn add(&mut self, store: &Store, name: &str, new: &NewEntry) -> Result<Value, Problem> {
        check_name(name)?;
        let mut token = None;
        let proof = match (&new.certificate, &new.common_name) {
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("an entry is for a certificate or for a common name, not for both"));
            }
            (Some(text), None) => {
                let wrong = |error| Problem::invalid(format!("certificate: {error}"));
                Proof::CertificateSha256(parse_fingerprint(text).map_err(wrong)?)
            }
            (None, Some(text)) if text.is_empty() || text.len() > MAX_COMMON_NAME => {
                return Err(Problem::invalid(format!("a common name has 1 to {MAX_COMMON_NAME} bytes")));
            }
            (None, Some(text)) => Proof::CommonName(text.clone()),
            (None, None) => {
                let made = random().map_err(|error| Problem::host(error.to_string()))?;
                let proof = Proof::TokenSha256(digest(made.as_bytes()));
                token = Some(made);
                proof
            }
        };
        let expires = match new.expires_seconds {
            Some(0) => return Err(Problem::invalid("expires-seconds: it would have ended already")),
            Some(seconds) if seconds > LONGEST => {
                return Err(Problem::invalid(format!("expires-seconds: at most {LONGEST}")));
            }
            other => other.map(|seconds| now() + seconds),
        };
        let entry = Entry { name: name.to_owned(), role: new.role, proof, created: now(), expires };
        let mut entries = self.entries.clone();
        entries.retain(|other| other.name != name);
        if entries.len() >= MAX_ENTRIES {
            return Err(Problem::state(format!("there are {MAX_ENTRIES} entries already")).with_remedy("remove some"));
        }
        let mut shown = entry.to_json();
        entries.push(entry);
        self.replace(store, entries)?;
        if let Some(token) = token {
            shown["token"] = token.into();
        }
        Ok(shown)
    }

    /// Removes an entry, and writes the file.
    ///
    /// # Errors
    /// Returns an error if there is none, or if the file cannot be written.
    pub fn remove(&mut self, store: &Store, name: &str) -> Result<(), Problem> {
        let mut entries = self.entries.clone();
        entries.retain(|entry| entry.name != name);
        if entries.len() == self.entries.len() {
            return Err(Problem::not_found(format!("there is no access {name:?}")).with_remedy("GET /access lists all"));
        }
        self.replace(store, entries)
    }

    fn replace(&mut self, store: &Store, entries: Vec<Entry>) -> Result<(), Problem> {
        let text = serde_json::to_string_pretty(&entries).map_err(|error| Problem::host(error.to_string()))?;
        store
            .replace(&path_in(store.path()), text.as_bytes(), 0o600)
            .map_err(|error| Problem::host(error.to_string()))?;
        self.entries = entries;
        Ok(())
    }

    /// Returns all entries, without what is secret.
    pub fn to_json(&self) -> Value {
        json!({ "access": self.entries.iter().map(Entry::to_json).collect::<Vec<_>>() })
    }

    /// Returns who has a token, whose digest this is.
    pub fn by_token(&self, digest: &str) -> Option<Caller> {
        self.find(|proof| matches!(proof, Proof::TokenSha256(own) if own == digest))
    }

    /// Returns who has a certificate.
    pub fn by_certificate(&self, certificate: &[u8]) -> Option<Caller> {
        let fingerprint = digest(certificate);
        let found = self.find(|proof| matches!(proof, Proof::CertificateSha256(own) if *own == fingerprint));
        found.or_else(|| {
            let name = common_name(certificate)?;
            self.find(|proof| matches!(proof, Proof::CommonName(own) if *own == name))
        })
    }

    fn find(&self, is_it: impl Fn(&Proof) -> bool) -> Option<Caller> {
        let now = now();
        let entry = self.entries.iter().find(|entry| entry.is_valid(now) && is_it(&entry.proof))?;
        Some(Caller { who: entry.name.clone(), role: entry.role, by: Credential::Entry(entry.proof.clone()) })
    }

    /// Returns how long a name keeps a role by its proof: `None` if it has no such role any more.
    pub fn left(&self, name: &str, proof: &Proof, role: Role) -> Option<Duration> {
        let entry = self.entries.iter().find(|entry| entry.name == name && entry.proof == *proof)?;
        if entry.role < role {
            return None;
        }
        let Some(end) = entry.expires else { return Some(Duration::MAX) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(end).checked_sub(now).filter(|left| !left.is_zero())
    }
}

fn path_in(state: &Path) -> PathBuf {
    state.join(FILE)
}

fn at(path: &Path, problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{}: {problem}", path.display()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
