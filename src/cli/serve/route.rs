//! A resource with a method: what a request for it is, and what is answered.

use super::access::Role;
use super::api::{Answered, Call};

/// A table of routes. A line for each method of each resource.
macro_rules! routes {
    ($(
        $method:ident $path:literal $id:literal $summary:literal,
        $role:ident, $body:ident $(($schema:literal))?, $answer:expr, $problems:expr => $handler:path;
    )*) => {
        &[$(Route {
            method: stringify!($method),
            path: $path,
            id: $id,
            summary: $summary,
            role: Role::$role,
            body: Body::$body $(($schema))?,
            answer: $answer,
            problems: &$problems,
            handler: $handler,
        },)*]
    };
}
pub(super) use routes;

/// A method on a resource.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path. A part in braces is any: `{name}` is the name of a machine, `{job}` the number of a job. At the end, `{file}` is all the rest.
    pub path: &'static str,
    /// The name of the operation, for generated clients.
    pub id: &'static str,
    /// Summary of the operation.
    pub summary: &'static str,
    /// The role that a request needs at least.
    pub role: Role,
    /// Body of the request.
    pub body: Body,
    /// Reply of a successful request.
    pub answer: Answer,
    /// The statuses of problems that not every request may have.
    pub problems: &'static [u16],
    /// The function that answers.
    pub handler: fn(&Call<'_>) -> Answered,
}

/// The body of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// None.
    None,
    /// A definition.
    Definition,
    /// JSON with this schema.
    Json(&'static str),
    /// The same, or nothing.
    Optional(&'static str),
}

/// The type of bytes that come until somebody ends the connection.
pub const STREAM: &str = "application/octet-stream";

/// The kinds of answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The page.
    Page,
    /// JSON with this schema.
    Json(&'static str),
    /// JSON with this schema, with the status 201 if the resource is new.
    Created(&'static str),
    /// A text of this type.
    Text(&'static str),
    /// Server-sent events.
    Events,
    /// A WebSocket.
    Stream,
    /// Bytes of this type.
    Bytes(&'static str),
}

impl Route {
    /// Returns `true` if a request needs no token: for the page, and to begin a session by a code.
    pub fn is_open(&self) -> bool {
        self.answer == Answer::Page || self.id == "session"
    }

    /// Returns `true` if a request may change something: it is noted in the audit log.
    pub fn changes(&self) -> bool {
        (self.method != "GET" || self.answer == Answer::Stream) && !matches!(self.id, "ticket" | "read-settings")
    }

    /// Returns `true` if the answer lasts until somebody ends it.
    pub fn is_stream(&self) -> bool {
        matches!(self.answer, Answer::Stream | Answer::Events | Answer::Bytes(STREAM))
    }

    /// Returns `true` if HEAD is answered as GET, without the body.
    pub fn has_head(&self) -> bool {
        self.method == "GET" && !self.is_stream()
    }

    /// Returns the first name in a path, or `None` if the route is another one.
    pub fn matches<'a>(&self, path: &'a [String]) -> Option<&'a str> {
        let file = self.path.strip_suffix("{file}");
        let parts = || file.unwrap_or(self.path).split('/').filter(|part| !part.is_empty());
        let (path, rest) = path.split_at_checked(parts().count())?;
        let name = parts().zip(path).find(|(part, _)| is_open(part)).map_or("", |(_, given)| given);
        let ends = file.is_none() == rest.is_empty();
        (ends && parts().zip(path).all(|(part, given)| is_open(part) || part == given)).then_some(name)
    }

    /// Returns the names of the parts of the path that are open.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

fn is_open(part: &str) -> bool {
    part.starts_with('{')
}
