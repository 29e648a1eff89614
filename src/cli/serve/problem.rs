//! Reasons why a request is not carried out that only the service has.

use super::access::{Caller, Role};
use super::error::Problem;

/// The kind of a problem that is over after [`PAUSE`](super::pace::PAUSE).
pub const TOO_FAST: &str = "too-fast";

impl Problem {
    /// The request has no valid token.
    pub fn unauthorized() -> Self {
        let remedy = "send the header Authorization: Bearer TOKEN, with the content of the file token in the state directory, or \
                      with a token of viridian access add";
        Self::unauthorized_with("the request has no valid token").with_remedy(remedy)
    }

    /// Nobody knows whom the request comes from.
    pub fn unauthorized_with(message: impl Into<String>) -> Self {
        Self::of(401, "unauthorized", message)
    }

    /// The request needs another role.
    pub fn forbidden(caller: &Caller, needed: Role) -> Self {
        let (who, has, needed) = (&caller.who, caller.role.name(), needed.name());
        Self::of(403, "forbidden", format!("this needs the role {needed}, and {who} has the role {has}"))
            .with_remedy(format!("use a token with the role {needed}: viridian access add NAME --role {needed}"))
    }

    /// There were too many attempts.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::of(429, "too-many", message)
    }

    /// The caller makes too many requests.
    pub fn too_fast(message: impl Into<String>) -> Self {
        let remedy = "try again in a second, and make fewer requests: GET /events says what changes";
        Self::of(429, TOO_FAST, message).with_remedy(remedy)
    }

    /// The request comes from a page of another host.
    pub fn foreign(origin: &str) -> Self {
        Self::of(403, "forbidden", format!("the page is of {origin:?}, which is another host than this service's"))
            .with_remedy("open the page at the address of the service; a proxy has to pass the header Host on")
    }

    /// The resource is reached by a WebSocket.
    pub fn upgrade(message: impl Into<String>) -> Self {
        Self::of(426, "upgrade", message).with_remedy("use a client of WebSockets (RFC 6455)")
    }

    /// The machine does not answer.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::of(504, "timeout", message)
    }

    /// There is no such machine.
    pub fn no_machine(name: &str) -> Self {
        Self::not_found(format!("there is no machine {name:?}")).with_remedy("GET /machines lists what there is")
    }

    fn of(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), place: None, remedy: None }
    }

    /// Adds what to do about it.
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Adds the place of the mistake.
    pub fn with_place(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }
}
