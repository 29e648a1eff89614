//! `viridian adapter`.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Done, plug};
use crate::cli::client::{Remote, encoded};

/// Time limit of a configuration: the guest's daemon runs a script.
const LIMIT: Duration = Duration::from_secs(300);

/// The options of `viridian adapter`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine
    name: String,

    #[command(subcommand)]
    action: Action,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// The state of a cable.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Link {
    Up,
    Down,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the adapters
    List,
    /// Attach an adapter, and print its name
    Attach {
        /// As for run --net
        #[arg(value_name = "WHERE[,OPTIONS]")]
        net: String,
    },
    /// Detach an adapter, even if the guest uses it
    Detach {
        /// The name, such as net1
        adapter: String,
    },
    /// Make the guest give an adapter addresses, by its KVP daemon
    Configure {
        /// The name, such as net0
        adapter: String,
        /// Take the addresses from DHCP
        #[arg(long, conflicts_with_all = ["address", "gateway"])]
        dhcp: bool,
        /// An address with its prefix length, such as 10.0.0.5/24; repeat for more
        #[arg(long, required_unless_present = "dhcp")]
        address: Vec<String>,
        /// A gateway; repeat for more
        #[arg(long)]
        gateway: Vec<IpAddr>,
        /// A name server; repeat for more
        #[arg(long)]
        name_server: Vec<IpAddr>,
    },
    /// Plug the cable in or out
    Link {
        /// The name, such as net0
        adapter: String,
        /// The new state
        #[arg(value_enum)]
        state: Link,
    },
}

pub fn run(Arguments { name, action, json }: Arguments) -> Done {
    let machine = Remote::named(&name)?;
    match action {
        Action::List => plug::list(&machine, "adapter", json, in_words),
        Action::Attach { net } => plug::attach(&machine, "/adapters", &net, json),
        Action::Detach { adapter } => plug::detach(&machine, "/adapters", &adapter, json),
        Action::Configure { adapter, dhcp, address, gateway, name_server } => {
            let body = json!({ "dhcp": dhcp, "addresses": address, "gateways": gateway, "name-servers": name_server });
            machine.request("PUT", &format!("/adapters/{}/addresses", encoded(&adapter)), Some(&body), LIMIT)?;
            plug::changed(&machine, &adapter, json)
        }
        Action::Link { adapter, state } => {
            let state = if let Link::Up = state { "up" } else { "down" };
            machine.post(&format!("/devices/{}/link", encoded(&adapter)), Some(&json!(state)))?;
            plug::changed(&machine, &adapter, json)
        }
    }
}

fn in_words(adapter: &Value) -> String {
    let text = |key: &str| adapter[key].as_str().unwrap_or("-");
    format!("{}  link {}", text("address"), text("link"))
}
