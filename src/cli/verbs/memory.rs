//! `viridian memory`.

use serde_json::Value;
use viridian::config::Size;

use super::{Done, print};
use crate::cli::client::Remote;

/// The options of `viridian memory`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine
    name: String,

    /// The guest's new size, within the min and max of --memory; without it, the sizes are printed
    size: Option<Size>,
}

pub fn run(Arguments { name, size }: Arguments) -> Done {
    let machine = Remote::named(&name)?;
    if let Some(size) = size {
        machine.post("/devices/memory/set", Some(&Value::from(size.0)))?;
    }
    let tree = machine.get("/inspect")?;
    let memory = &tree["devices"]["memory"];
    let size = |value: &Value| value.as_u64().map_or_else(|| "unknown".to_owned(), |bytes| Size(bytes).to_string());
    if memory.is_null() {
        print(&format!("{}, fixed\n", size(&tree["memory-bytes"])))?;
        return Ok(0);
    }
    let field = |name: &str| size(&memory[name]);
    print(&format!(
        "assigned {}, target {}, minimum {}, maximum {}, demand {}\n",
        field("assigned-bytes"),
        field("target-bytes"),
        field("minimum-bytes"),
        field("maximum-bytes"),
        field("demand-bytes"),
    ))?;
    Ok(0)
}
