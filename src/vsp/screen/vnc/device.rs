//! The VNC server as a device of its machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::show::Show;
use crate::device::{Device, Floor, Identity, Value};

/// The server.
pub struct VncDevice(pub Arc<Show>);

impl Device for VncDevice {
    fn identity(&self) -> Identity {
        Identity::new("vnc", "vnc", Floor::Provider)
    }

    fn inspect(&self) -> Value {
        let Show { address, stage, refused, .. } = &*self.0;
        json!({ "status": {
            "address": address.as_ref().map(ToString::to_string),
            "viewers": stage.viewers(),
            "scrolls": stage.scrolls(),
            "refused": refused.load(Ordering::Relaxed),
        } })
    }
}
