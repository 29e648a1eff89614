//! Events of devices, for the program that started the machine.

use std::fmt;
use std::sync::Arc;

use super::Value;

/// Something that happened to a device, for the program that started the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// The name of the device.
    pub device: String,
    /// The event, in words.
    pub what: String,
    /// Details, as an object of names and values.
    pub details: Value,
}

impl fmt::Display for DeviceEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.device, self.what)?;
        match &self.details {
            Value::Null => Ok(()),
            details => write!(formatter, " {details}"),
        }
    }
}

/// Takes the events of devices, on any thread. It never waits.
#[derive(Clone, Default)]
pub struct Outlet(Option<Arc<dyn Fn(DeviceEvent) + Send + Sync>>);

impl Outlet {
    /// Creates an outlet that calls `take` for each event.
    pub fn new(take: impl Fn(DeviceEvent) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(take)))
    }

    /// Reports an event of a device.
    pub fn tell(&self, device: &str, what: impl Into<String>, details: Value) {
        if let Some(take) = &self.0 {
            take(DeviceEvent { device: device.to_owned(), what: what.into(), details });
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Outlet")
    }
}
