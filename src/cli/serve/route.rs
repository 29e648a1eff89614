//! A resource with a method: what a request for it is, and what is answered.

use super::access::Role;
use super::api::{Answered, Call};

/// A method on a resource.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path. `{name}` is the name of a machine, `{job}` the number of a job; at the end, `{file}` is all the rest, and `{path}` too, which may be nothing.
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
    /// The steps to stop a machine, and their time limits.
    Stop,
    /// A role, and who gets it.
    Access,
    /// A job.
    Job,
    /// What a machine takes.
    Any,
}

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
    /// What a machine answers.
    Machine,
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

    /// Returns the name in a path and what follows it, or `None` if the route is another one.
    pub fn matches<'a>(&self, path: &'a [String]) -> Option<(&'a str, &'a [String])> {
        let (file, any) = (self.path.strip_suffix("{file}"), self.path.strip_suffix("{path}"));
        let parts = || file.or(any).unwrap_or(self.path).split('/').filter(|part| !part.is_empty());
        let (path, rest) = path.split_at_checked(parts().count())?;
        let mut name = "";
        let fits = |(part, given): (&str, &'a String)| {
            let is_open = matches!(part, "{name}" | "{job}");
            if is_open {
                name = given;
            }
            is_open || part == given
        };
        let ends = any.is_some() || file.is_none() == rest.is_empty();
        (ends && parts().zip(path).all(fits)).then_some((name, rest))
    }
}
