//! The resources of the service. This table decides which function answers a request, and `/openapi.json` is made from it.

use super::access::Role;
use super::api::{self, Answered, Call, Reply};
use super::assets;
use super::error::Problem;
use super::job_requests;
use super::machine_routes::MACHINE_ROUTES;
use super::metering;
use super::openapi;
use super::route::{Answer, Body, Route, routes};
use super::settings;
use super::streams;
use super::tunnel;

/// All that can be requested of the service.
const SERVICE_ROUTES: &[Route] = routes! {
    GET "/" "page" "The page for people", Read, None, Answer::Page, [] => assets::page;
    GET "/page/{file}" "file" "The files of the page", Read, None, Answer::Page, [404] => assets::file;
    GET "/settings" "settings" "The settings that a definition may have, for forms", Read, None, Answer::Json("Settings"), [] => settings::list;
    POST "/settings" "read-settings" "The values of the settings in a definition, which is not kept, for forms", Read, Definition,
        Answer::Json("Values"), [] => settings::read;
    POST "/tickets" "ticket" "A ticket for one WebSocket, for browsers: the protocol ticket.TICKET in place of the token", Read,
        None, Answer::Json("Ticket"), [] => streams::ticket;
    GET "/openapi.json" "openapi" "This document", Read, None, Answer::Json("Document"), [] => document;
    GET "/metrics" "metrics" "Metrics for Prometheus", Read, None, Answer::Text("text/plain"), [] => api::metrics;
    GET "/events" "events" "What happens, as server-sent events; the header Last-Event-ID continues after an event",
        Read, None, Answer::Events, [] => api::events;
    GET "/service" "service" "Facts about the service", Read, None, Answer::Json("Service"), [] => api::service;
    POST "/session" "session" "A token for the page, for the code that viridian serve --open prints, which is used up",
        Administer, None, Answer::Json("Session"), [429] => api::session;
    GET "/access" "access" "Who may do what, without tokens", Administer, None, Answer::Json("AccessList"), [] => api::access;
    PUT "/access/{name}" "grant" "Give a role to a name: a new token, or a certificate; what the name had before is withdrawn",
        Administer, Json("NewAccess"), Answer::Created("Access"), [409] => api::grant;
    DELETE "/access/{name}" "revoke" "Take the role of a name away", Administer, None, Answer::Json("Nothing"),
        [404] => api::revoke;
    POST "/service/host-stop" "host-stop" "Begin to stop all machines as their definitions say, before the host shuts down",
        Administer, None, Answer::Json("Nothing"), [] => api::host_stop;
    GET "/jobs" "jobs" "Long operations: jobs that run, and those that have ended in the last hour", Read, None,
        Answer::Json("Jobs"), [] => job_requests::list;
    POST "/jobs" "begin" "Begin a job: start or stop a machine, change a guest's memory; with the role administer, copy a file into a guest, attach a disk or an adapter",
        Operate, Json("NewJob"), Answer::Created("Job"), [404, 409, 502, 504] => job_requests::begin;
    GET "/jobs/{job}" "job" "A job and its progress", Read, None, Answer::Json("Job"), [404] => job_requests::get;
    DELETE "/jobs/{job}" "cancel" "Request the end of a job", Operate, None, Answer::Json("Job"), [404, 409] => job_requests::cancel;
    GET "/jobs/{job}/events" "follow" "A job each time that it has changed, until its end, as server-sent events", Read, None,
        Answer::Events, [404] => job_requests::follow;
    GET "/meter" "meters" "What all machines have used since their resets, and the sums", Read, None, Answer::Json("Meters"),
        [] => metering::all;
    GET "/machines" "list" "All machines", Read, None, Answer::Json("Machines"), [] => api::list;
    GET "/machines/{name}" "get" "A machine, with its last messages", Read, None, Answer::Json("Machine"), [404] => api::get;
    PUT "/machines/{name}" "define" "Create or replace the definition of a machine or a lab; one that runs keeps its own",
        Administer, Definition, Answer::Created("Machine"), [409, 500] => api::put;
    DELETE "/machines/{name}" "undefine" "Remove the definition of a machine or a lab that is stopped", Administer, None,
        Answer::Json("Nothing"), [404, 409, 500] => api::delete;
    GET "/machines/{name}/definition" "definition" "The text of a definition", Operate, None,
        Answer::Text("application/toml"), [404, 409] => api::definition;
    POST "/machines/{name}/start" "start" "Start a machine or a lab", Operate, None, Answer::Json("Machine"), [404, 409] => api::start;
    POST "/machines/{name}/stop" "stop" "Begin to shut a machine down: by the guest, by the power button, by force", Operate, Optional("Stop"),
        Answer::Json("Machine"), [404, 409, 500] => api::stop;
    POST "/machines/{name}/kill" "kill" "End a machine at once", Operate, None, Answer::Json("Machine"), [404, 409] => api::kill;
    POST "/machines/{name}/pause" "pause" "Stop the guest and its time", Operate, None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::pause;
    POST "/machines/{name}/resume" "resume" "Let the guest continue", Operate, None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::resume;
    POST "/machines/{name}/reset" "reset" "Reset the machine: its guest starts again", Operate, None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::reset;
    POST "/machines/{name}/nmi" "nmi" "Send a non-maskable interrupt to the processors", Operate, None, Answer::Json("Machine"),
        [404, 409, 500, 502, 504] => api::nmi;
    GET "/machines/{name}/inspect" "inspect" "The tree of a running machine and its devices; of a lab, those of its machines", Read, None,
        Answer::Json("Tree"), [404, 409, 500, 502, 504] => api::inspect;
    GET "/machines/{name}/metrics" "machine-metrics" "Metrics of a running machine for Prometheus: exits, disks, adapters, rings", Read,
        None, Answer::Text("text/plain"), [404, 409, 500, 502, 504] => api::machine_metrics;
    GET "/machines/{name}/meter" "meter" "What a machine has used since a reset", Read, None, Answer::Json("Meter"),
        [404] => metering::get;
    DELETE "/machines/{name}/meter" "reset-meter" "Begin to measure a machine anew", Operate, None, Answer::Json("Meter"),
        [404] => metering::reset;
    GET "/machines/{name}/console" "console" "The end of the guest's console, if it goes to a file or the machine has ended", Read, None,
        Answer::Text("text/plain"), [404, 409, 500] => api::console;
    GET "/machines/{name}/console/stream" "attach" "The console as a WebSocket: its last 64 KiB, and what follows; what is sent is typed",
        Read, None, Answer::Stream, [403, 404, 409, 426, 500, 502, 504] => streams::console;
    GET "/machines/{name}/screen/picture" "picture" "What the screen shows, as a PNG file", Read, None,
        Answer::Bytes("image/png"), [404, 409, 410, 500, 502, 504] => tunnel::forward;
    GET "/machines/{name}/screen/stream" "view"
        "The screen as a WebSocket that carries RFB, for viewers such as noVNC; with the role read, keys and buttons are dropped", Read,
        None, Answer::Stream, [403, 404, 409, 426, 500, 502, 504] => streams::screen;
};

/// Returns all that can be requested.
pub fn all() -> impl Iterator<Item = &'static Route> {
    SERVICE_ROUTES.iter().chain(MACHINE_ROUTES)
}

/// Returns the methods that a resource takes, for the header `Allow`.
pub fn allowed(path: &[String]) -> String {
    let mut methods = Vec::new();
    for route in all().filter(|route| route.matches(path).is_some()) {
        methods.push(route.method);
        methods.extend(route.has_head().then_some("HEAD"));
    }
    methods.dedup();
    methods.join(", ")
}

/// The route of a request.
pub struct Found<'a> {
    /// The route.
    pub route: &'static Route,
    /// The name in the path.
    pub name: &'a str,
}

/// Finds the route of a request.
///
/// # Errors
/// Returns an error if there is no such resource, or if it does not take the method.
pub fn find<'a>(method: &str, path: &'a [String]) -> Result<Found<'a>, Problem> {
    let found = || {
        let matching = |route: &'static Route| {
            let name = route.matches(path)?;
            Some(Found { route, name })
        };
        all().filter_map(matching)
    };
    let answers = |route: &Route| route.method == method || method == "HEAD" && route.has_head();
    if let Some(found) = found().find(|found| answers(found.route)) {
        return Ok(found);
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
    Ok(Reply::Json(openapi::document(all())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn find(method: &str, path: &str) -> Result<(&'static str, String), u16> {
        let path: Vec<_> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        super::find(method, &path)
            .map(|found| (found.route.id, found.name.to_owned()))
            .map_err(|problem| problem.status)
    }

    #[test]
    fn a_request_finds_its_route() {
        assert_eq!(find("GET", "/"), Ok(("page", String::new())));
        assert_eq!(find("PUT", "/machines/web"), Ok(("define", "web".into())));
        assert_eq!(find("POST", "/machines/web/start"), Ok(("start", "web".into())));
        assert_eq!(find("GET", "/machines/web/start"), Err(405));
        assert_eq!(find("get", "/machines"), Err(405));
        assert_eq!(find("GET", "/machines/web/x"), Err(404));
        assert_eq!(find("GET", "/machines/web/control"), Ok(("machine-summary", "web".into())));
        assert_eq!(find("POST", "/machines/web/control/devices/x/y"), Ok(("command", "web".into())));
        assert_eq!(find("POST", "/machines/web/control/devices/screen/screenshot"), Ok(("screenshot", "web".into())));
        assert_eq!(find("PUT", "/machines/web/control/kvp/host/a"), Ok(("set-item", "web".into())));
        assert_eq!(find("GET", "/machines/web/control/kvp"), Err(404));
        assert_eq!(find("GET", "/machines/web/control/disks"), Err(405));
        assert_eq!(find("DELETE", "/jobs/17"), Ok(("cancel", "17".into())));
        assert_eq!(find("GET", "/x"), Err(404));
        assert_eq!(find("HEAD", "/machines"), Ok(("list", String::new())));
        assert_eq!(find("HEAD", "/machines/web/screen/picture"), Ok(("picture", "web".into())));
        assert_eq!((find("HEAD", "/events"), find("HEAD", "/machines/web/start")), (Err(405), Err(405)));
        assert_eq!(find("GET", "/page/vendor/xterm-6.0.0/xterm.css"), Ok(("file", String::new())));
        assert_eq!(find("GET", "/page"), Err(404));
        let allowed = |path: &str| allowed(&path.split('/').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(allowed("machines/a"), "GET, HEAD, PUT, DELETE");
        assert_eq!(allowed("machines/a/control/devices/net0/link"), "POST");
    }

    #[test]
    fn the_document_has_each_route_and_no_other() {
        let document = openapi::document(all());
        let paths = document["paths"].as_object().unwrap();
        let documented = paths.iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
        });
        let documented: BTreeSet<_> = documented.collect();
        let table: BTreeSet<_> = all().map(|route| (route.path.to_owned(), route.method.to_owned())).collect();
        assert_eq!(documented, table);
        let ids: BTreeSet<_> = all().map(|route| route.id).collect();
        assert_eq!(ids.len(), all().count(), "names of operations are unique");
    }
}
