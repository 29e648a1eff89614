//! The resources of a machine itself: requests for them are passed on to its control socket. `docs/control.md` describes them.

use super::access::Role;
use super::route::{Answer, Body, Route, STREAM, routes};
use super::tunnel;

/// The statuses of problems that each of these requests may have.
const OF_A_MACHINE: [u16; 5] = [404, 409, 410, 502, 504];

/// The requests that are passed on to a machine.
pub const MACHINE_ROUTES: &[Route] = routes! {
    GET "/machines/{name}/control" "machine-summary" "The facts about a running machine that fit into a line of a list", Read, None,
        Answer::Json("Summary"), OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/inspect" "machine-inspect" "The tree of a running machine and its devices", Read, None,
        Answer::Json("Tree"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/pause" "machine-pause" "Stop the guest and its time", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/resume" "machine-resume" "Let the guest go on", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/reset" "machine-reset" "Reset the machine: its guest starts again", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/kill" "machine-kill" "End the machine at once; the service may start it again", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/nmi" "machine-nmi" "Send a non-maskable interrupt to the processors", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/power-button" "power-button" "Press the power button", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/shutdown" "shutdown" "Ask the shutdown service of the guest; the answer comes before the guest acts",
        Operate, Optional("Shutdown"), Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/devices/memory/set" "set-memory" "Set the size that the guest's memory is brought to", Operate,
        Json("Size"), Answer::Json("MemoryTarget"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/devices/keyboard/type" "type" "Type a text in the layout of the keyboard", Operate, Json("Text"),
        Answer::Json("Result"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/devices/keyboard/press" "press" "Press keys together, such as ctrl+alt+del", Operate, Json("Text"),
        Answer::Json("Result"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/devices/screen/screenshot" "screenshot"
        "Have the process of the machine write a picture of the screen to a PNG file of its host", Administer, Json("Path"),
        Answer::Json("Result"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/devices/{adapter}/link" "link" "Plug the cable of an adapter in or out", Operate, Json("Link"),
        Answer::Json("Result"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/devices/{device}/{command}" "command" "Send a command to a device; inspect lists both", Operate,
        Optional("Arguments"), Answer::Json("Result"), OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/services" "services" "The integration services and their status", Read, None,
        Answer::Json("Services"), OF_A_MACHINE => tunnel::forward;
    PUT "/machines/{name}/control/services/{service}" "switch-service" "Turn an integration service on or off", Operate,
        Json("Switch"), Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/kvp/{pool}" "items" "The items of a pool of the key-value pair exchange", Read, None,
        Answer::Json("Items"), OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/kvp/{pool}/{key}" "item" "An item of a pool", Read, None, Answer::Json("Item"),
        OF_A_MACHINE => tunnel::forward;
    PUT "/machines/{name}/control/kvp/{pool}/{key}" "set-item" "Add or replace an item of a pool", Operate, Json("NewItem"),
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    DELETE "/machines/{name}/control/kvp/{pool}/{key}" "delete-item" "Delete an item of a pool", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/freeze" "freeze"
        "Freeze the guest's file systems until the client closes its side of the connection, as server-sent events", Operate,
        Optional("Freeze"), Answer::Events, OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/copy" "copy" "Copy a file of the host into the guest, with the progress as server-sent events",
        Administer, Json("Copy"), Answer::Events, OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/disks" "attach-disk" "Attach a disk until the end of the machine", Administer, Json("Attach"),
        Answer::Json("AttachedDisk"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/disks/{disk}/resize" "resize-disk" "Enlarge a disk", Administer, Json("Resize"),
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    DELETE "/machines/{name}/control/disks/{disk}" "detach-disk" "Detach a disk", Operate, None, Answer::Json("Nothing"),
        OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/adapters" "attach-adapter" "Attach a network adapter until the end of the machine", Administer,
        Json("Attach"), Answer::Json("AttachedAdapter"), OF_A_MACHINE => tunnel::forward;
    DELETE "/machines/{name}/control/adapters/{adapter}" "detach-adapter" "Detach a network adapter", Operate, None,
        Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    PUT "/machines/{name}/control/adapters/{adapter}/addresses" "configure-adapter" "Have the guest give an adapter addresses", Operate,
        Json("Addresses"), Answer::Json("Nothing"), OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/screen/picture" "machine-picture" "What the screen shows, as a PNG file", Read, None,
        Answer::Bytes("image/png"), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/screen/wait" "wait-for-screen"
        "Wait until the screen shows a text, or the picture in a file of the host, for which the role administer is needed", Operate,
        Json("Wait"), Answer::Json("Seen"), OF_A_MACHINE => tunnel::wait;
    GET "/machines/{name}/control/screen" "watch-screen"
        "The screen: the connection carries RFB after the head of the reply, and keys and buttons of the viewer are dropped", Read, None,
        Answer::Bytes(STREAM), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/screen" "machine-screen" "The screen: the connection carries RFB after the head of the reply", Operate,
        None, Answer::Bytes(STREAM), OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/console" "watch-console" "The console, beginning with its last 64 KiB, until the machine ends", Read,
        None, Answer::Bytes(STREAM), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/console" "use-console" "The same; what the client sends after the request is typed", Operate,
        Optional("Take"), Answer::Bytes(STREAM), OF_A_MACHINE => tunnel::forward;
    POST "/machines/{name}/control/sockets/{port}" "socket"
        "A connection to a listener in the guest: the connection carries its bytes after the head of the reply", Operate, None,
        Answer::Bytes(STREAM), OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/events" "machine-events" "The events of the machine until its end, as server-sent events", Read, None,
        Answer::Events, OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/trace/{kinds}" "trace" "Decoded messages and packets as they come, as server-sent events", Read, None,
        Answer::Events, OF_A_MACHINE => tunnel::forward;
    GET "/machines/{name}/control/trace/{kinds}/{text}" "trace-with" "The same, but only lines with a text", Read, None,
        Answer::Events, OF_A_MACHINE => tunnel::forward;
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_resource_of_a_control_socket_is_declared() {
        let table = include_str!("../../control/routes.rs");
        let lines = table.lines().filter_map(|line| line.trim().split_once(" => api::")).map(|(route, _)| route);
        let there: BTreeSet<_> = lines.map(|line| line.replace('"', "")).collect();
        assert!(there.len() > 30, "{there:?}");
        let declared = MACHINE_ROUTES.iter().map(|route| {
            let path = route.path.strip_prefix("/machines/{name}/control").unwrap();
            let parts = path.split('/').map(|part| if part.starts_with('{') { "*" } else { part });
            let path = parts.collect::<Vec<_>>().join("/");
            format!("{} {}", route.method, if path.is_empty() { "/" } else { &path })
        });
        // Commands of devices have lines of their own here.
        let is_command = |route: &String| route.starts_with("POST /devices/") && route != "POST /devices/*/*";
        let declared: BTreeSet<_> = declared.filter(|route| !is_command(route)).collect();
        assert_eq!(declared, there);
    }

    #[test]
    fn what_names_files_of_the_host_needs_the_highest_role() {
        for route in MACHINE_ROUTES {
            let names_files =
                ["attach-disk", "resize-disk", "attach-adapter", "copy", "screenshot"].contains(&route.id);
            let expected = match (names_files, route.method) {
                (true, _) => Role::Administer,
                (false, "GET") => Role::Read,
                (false, _) => Role::Operate,
            };
            assert_eq!(route.role, expected, "{}", route.id);
        }
    }
}
