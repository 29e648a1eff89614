//! Facts of the service about machines without a socket of their own: those that do not run, and labs.

use serde_json::Value;

use super::client::{Remote, encoded, idle};

impl Remote {
    /// Returns those of the machines and labs of the service that are meant, although they perhaps have no process. Without a service,
    /// there are none.
    pub fn of_service(is_meant: impl Fn(&Value) -> bool) -> Vec<Self> {
        let list = Self::usual_service().and_then(|service| service.get("/machines")).unwrap_or_default();
        let machines = list["machines"].as_array().into_iter().flatten();
        let meant = machines.filter(|machine| is_meant(machine));
        meant.filter_map(|machine| Self::expected(machine["name"].as_str()?)).collect()
    }

    /// Returns the running machines of a lab of the service, or `None` if there is no lab of this name.
    pub fn of_lab(name: &str) -> Option<Vec<Self>> {
        let list = Self::usual_service().ok()?.get("/machines").ok()?;
        let machines = || list["machines"].as_array().into_iter().flatten();
        machines().find(|machine| machine["name"] == name)?["machines"].as_array()?;
        let own = machines().filter(|machine| machine["lab"] == name && !machine["process"].is_null());
        Some(own.filter_map(|machine| Self::expected(machine["name"].as_str()?)).collect())
    }

    /// Returns why a machine or a lab of the service cannot be reached by this name, if there is one.
    pub fn unreachable(name: &str) -> Option<String> {
        let known = Self::usual_service().ok()?.get(&format!("/machines/{}", encoded(name))).ok()?;
        let members: Vec<_> = known["machines"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !members.is_empty() && !known["process"].is_null() {
            return Some(format!("it is a lab; name one of its machines: {}", members.join(", ")));
        }
        let state = known["state"].as_str()?;
        Some(match known["lab"].as_str() {
            Some(lab) => format!("it is {state}, and starts with its lab, {lab}"),
            None => idle(state, name),
        })
    }
}
