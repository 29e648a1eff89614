//! The resources of a machine, and which function answers which request.

use super::api;
use super::error::Problem;
use super::exchange::{Answered, Exchange};

/// A method on a resource.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path. `*` is any part.
    pub path: &'static str,
    /// The function that answers.
    pub handler: fn(&Exchange<'_>) -> Answered,
}

/// The table. A line for each method of each resource.
macro_rules! routes {
    ($($method:ident $path:literal => $handler:path;)*) => {
        &[$(Route { method: stringify!($method), path: $path, handler: $handler },)*]
    };
}

/// All that can be requested.
const ROUTES: &[Route] = routes! {
    GET "/" => api::state::summary;
    GET "/inspect" => api::state::inspect;
    POST "/pause" => api::state::pause;
    POST "/resume" => api::state::resume;
    POST "/kill" => api::state::kill;
    POST "/power-button" => api::state::power_button;
    POST "/shutdown" => api::services::shutdown;
    POST "/reset" => api::state::reset;
    POST "/nmi" => api::state::nmi;
    POST "/devices/*/*" => api::state::command;
    GET "/services" => api::services::list;
    PUT "/services/*" => api::services::switch;
    GET "/kvp/*" => api::key_value::list;
    GET "/kvp/*/*" => api::key_value::get;
    PUT "/kvp/*/*" => api::key_value::set;
    DELETE "/kvp/*/*" => api::key_value::delete;
    POST "/freeze" => api::freeze::freeze;
    POST "/copy" => api::copy::copy;
    POST "/disks" => api::plug::attach_disk;
    POST "/disks/*/resize" => api::plug::resize_disk;
    DELETE "/disks/*" => api::plug::detach_disk;
    POST "/adapters" => api::plug::attach_adapter;
    DELETE "/adapters/*" => api::plug::detach_adapter;
    GET "/screen/picture" => api::screen::picture;
    POST "/screen/wait" => api::wait::wait;
    PUT "/adapters/*/addresses" => api::addresses::configure;
    GET "/events" => api::events::follow;
    GET "/trace/*" => api::trace::follow;
    GET "/trace/*/*" => api::trace::follow;
    GET "/console" => api::console::watch;
    POST "/console" => api::console::attach;
    GET "/screen" => api::screen::watch;
    POST "/screen" => api::screen::view;
    POST "/sockets/*" => api::sockets::connect;
};

/// Returns `true` if the answer for a resource has no end of its own. Such a resource has no HEAD.
fn is_endless(path: &[String]) -> bool {
    match path.first().map(String::as_str) {
        Some("console" | "events" | "trace") => true,
        // A picture of it has an end.
        Some("screen") => path.len() == 1,
        _ => false,
    }
}

/// Finds the handler, and calls it.
pub fn answer(mut exchange: Exchange<'_>) -> Answered {
    let path = &exchange.request.path;
    let matches = |route: &&Route| {
        let parts: Vec<_> = route.path.split('/').filter(|part| !part.is_empty()).collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, given)| *part == "*" || part == given)
    };
    let found: Vec<_> = ROUTES.iter().filter(matches).collect();
    let shown = format!("/{}", path.join("/"));
    let method = if !is_endless(path) && exchange.request.is_head() { "GET" } else { &exchange.request.method };
    let Some(route) = found.iter().find(|route| route.method == method) else {
        if found.is_empty() {
            return Err(Problem::not_found(format!("there is no {shown}; docs/control.md lists what there is")));
        }
        let methods: Vec<_> = found.iter().map(|route| route.method).collect();
        return Err(Problem::method(format!(
            "{shown} takes {}, not {}",
            methods.join(" and "),
            exchange.request.method
        )));
    };
    let parts = route.path.split('/').filter(|part| !part.is_empty());
    exchange.names = parts.zip(path).filter(|(part, _)| *part == "*").map(|(_, given)| given.clone()).collect();
    (route.handler)(&exchange)
}
