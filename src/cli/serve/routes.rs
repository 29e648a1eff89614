//! The resources of the service. This table decides which function answers a request, and `/openapi.json` is made from it.

use super::api::{self, Answered, Call, Reply};
use super::assets;
use super::error::Problem;
use super::openapi;
use super::route::{Answer, Body, Route};
use super::settings;
use super::streams;

/// The table. A line for each method of each resource.
macro_rules! routes {
    ($(
        $method:ident $path:literal $id:literal $summary:literal,
        $body:ident, $answer:expr, $problems:expr => $handler:path;
    )*) => {
        &[$(Route {
            method: stringify!($method),
            path: $path,
            id: $id,
            summary: $summary,
            body: Body::$body,
            answer: $answer,
            problems: &$problems,
            handler: $handler,
        },)*]
    };
}

/// All that can be requested.
pub const ROUTES: &[Route] = routes! {
    GET "/" "page" "The page for people", None, Answer::Page, [] => assets::page;
    GET "/page/{file}" "file" "The files of the page", None, Answer::Page, [404] => assets::file;
    GET "/settings" "settings" "The settings that a definition may have, for forms", None, Answer::Json("Settings"), [] => settings::list;
    POST "/tickets" "ticket" "A ticket for one WebSocket, for browsers: the protocol ticket.TICKET in place of the token", None,
        Answer::Json("Ticket"), [] => streams::ticket;
    GET "/openapi.json" "openapi" "This document", None, Answer::Json("Document"), [] => document;
    GET "/metrics" "metrics" "Metrics for Prometheus", None, Answer::Text("text/plain"), [] => api::metrics;
    GET "/events" "events" "What happens, as server-sent events; the header Last-Event-ID continues after an event",
        None, Answer::Events, [] => api::events;
    GET "/service" "service" "Facts about the service", None, Answer::Json("Service"), [] => api::service;
    GET "/machines" "list" "All machines", None, Answer::Json("Machines"), [] => api::list;
    GET "/machines/{name}" "get" "A machine, with its last messages", None, Answer::Json("Machine"), [404] => api::get;
    PUT "/machines/{name}" "define" "Create or replace the definition of a machine; a machine that runs keeps its own",
        Definition, Answer::Created("Machine"), [409, 500] => api::put;
    DELETE "/machines/{name}" "undefine" "Remove the definition of a machine that is stopped", None,
        Answer::Json("Nothing"), [404, 409, 500] => api::delete;
    GET "/machines/{name}/definition" "definition" "The text of a definition", None,
        Answer::Text("application/toml"), [404, 409] => api::definition;
    POST "/machines/{name}/start" "start" "Start a machine", None, Answer::Json("Machine"), [404, 409] => api::start;
    POST "/machines/{name}/stop" "stop" "Begin to shut a machine down: by the guest, by the power button, by force", Stop,
        Answer::Json("Machine"), [404, 409, 500] => api::stop;
    POST "/machines/{name}/kill" "kill" "End a machine at once", None, Answer::Json("Machine"), [404, 409] => api::kill;
    POST "/machines/{name}/pause" "pause" "Stop the guest and its time", None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::pause;
    POST "/machines/{name}/resume" "resume" "Let the guest go on", None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::resume;
    POST "/machines/{name}/reset" "reset" "Reset the machine: its guest starts again", None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::reset;
    POST "/machines/{name}/nmi" "nmi" "Send a non-maskable interrupt to the processors", None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::nmi;
    GET "/machines/{name}/inspect" "inspect" "The tree of a running machine and its devices", None,
        Answer::Json("Tree"), [404, 409, 500, 502, 504] => api::inspect;
    GET "/machines/{name}/console" "console" "The end of the guest's console, if it goes to a file", None,
        Answer::Text("text/plain"), [404, 409, 500] => api::console;
    GET "/machines/{name}/console/stream" "attach" "The console as a WebSocket: its last 64 KiB, and what follows; what is sent is typed",
        None, Answer::Stream, [403, 404, 409, 426, 500, 502, 504] => streams::console;
    GET "/machines/{name}/screen/stream" "view" "The screen as a WebSocket that carries RFB, for viewers such as noVNC", None,
        Answer::Stream, [403, 404, 409, 426, 500, 502, 504] => streams::screen;
};

/// Returns the methods that a resource takes, for the header `Allow`.
pub fn allowed(path: &[String]) -> String {
    let methods = ROUTES.iter().filter(|route| route.matches(path).is_some()).map(|route| route.method);
    methods.collect::<Vec<_>>().join(", ")
}

/// Finds the route of a request, and the name in its path.
///
/// # Errors
/// Returns an error if there is no such resource, or if it does not take the method.
pub fn find<'a>(method: &str, path: &'a [String]) -> Result<(&'static Route, &'a str), Problem> {
    let found = || ROUTES.iter().filter_map(|route| Some((route, route.matches(path)?)));
    if let Some(route) = found().find(|(route, _)| route.method == method) {
        return Ok(route);
    }
    let shown = format!("/{}", path.join("/"));
    if found().next().is_none() {
        return Err(
            Problem::not_found(format!("there is no {shown}")).with_remedy("GET /openapi.json lists what there is")
        );
    }
    Err(Problem::method(format!("{shown} takes {}, not {method}", allowed(path))))
}

fn document(_: &Call<'_>) -> Answered {
    Ok(Reply::Json(openapi::document(ROUTES)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn find(method: &str, path: &str) -> Result<(&'static str, String), u16> {
        let path: Vec<_> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        super::find(method, &path).map(|(route, name)| (route.id, name.to_owned())).map_err(|problem| problem.status)
    }

    #[test]
    fn a_request_finds_its_route() {
        assert_eq!(find("GET", "/"), Ok(("page", String::new())));
        assert_eq!(find("PUT", "/machines/web"), Ok(("define", "web".into())));
        assert_eq!(find("POST", "/machines/web/start"), Ok(("start", "web".into())));
        assert_eq!(find("GET", "/machines/web/start"), Err(405));
        assert_eq!(find("get", "/machines"), Err(405));
        assert_eq!(find("GET", "/machines/web/x"), Err(404));
        assert_eq!(find("GET", "/x"), Err(404));
        assert_eq!(find("GET", "/page/vendor/xterm-6.0.0/xterm.css"), Ok(("file", String::new())));
        assert_eq!(find("GET", "/page"), Err(404));
        assert_eq!(allowed(&["machines".into(), "a".into()]), "GET, PUT, DELETE");
    }

    #[test]
    fn the_document_has_each_route_and_no_other() {
        let document = openapi::document(ROUTES);
        let paths = document["paths"].as_object().unwrap();
        let documented = paths.iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
        });
        let documented: BTreeSet<_> = documented.collect();
        let table: BTreeSet<_> = ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_owned())).collect();
        assert_eq!(documented, table);
        let ids: BTreeSet<_> = ROUTES.iter().map(|route| route.id).collect();
        assert_eq!(ids.len(), ROUTES.len(), "names of operations are unique");
    }
}
