//! The reason why a request is not carried out, as the client gets it.

use serde_json::{Value, json};

/// The reason why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The kind, for programs.
    pub kind: &'static str,
    /// A text that says what is wrong, where, and what to do about it.
    pub message: String,
    /// The place of the mistake, if the message does not name it.
    pub place: Option<String>,
    /// The remedy, if the message does not say it.
    pub remedy: Option<String>,
}

/// The kinds of problems, and their HTTP status.
macro_rules! kinds {
    ($($(#[$attribute:meta])* $name:ident = $status:literal $kind:literal;)*) => {
        impl Problem {
            $($(#[$attribute])* pub fn $name(message: impl Into<String>) -> Self {
                Self { status: $status, kind: $kind, message: message.into(), place: None, remedy: None }
            })*
        }
    };
}

kinds! {
    /// The request is invalid.
    invalid = 400 "invalid";
    /// There is no such thing.
    not_found = 404 "not-found";
    /// The resource does not take this method.
    method = 405 "method";
    /// The client was too slow.
    slow = 408 "slow";
    /// The present state does not allow it.
    state = 409 "state";
    /// The length of the body is unknown.
    length = 411 "length";
    /// The request is too large.
    large = 413 "large";
    /// The guest refuses, or does not answer.
    guest = 502 "guest";
    /// The host fails.
    host = 500 "host";
    /// There are too many connections.
    busy = 503 "busy";
    /// The machine has ended.
    ended = 410 "ended";
}

impl Problem {
    /// The machine does not run any more.
    pub fn gone() -> Self {
        Self::ended("the machine has ended")
    }

    /// Returns the body of the reply.
    pub fn body(&self) -> Value {
        let mut error = json!({ "kind": self.kind, "message": self.message });
        for (key, text) in [("where", &self.place), ("remedy", &self.remedy)] {
            if let Some(text) = text {
                error[key] = json!(text);
            }
        }
        json!({ "error": error })
    }
}
