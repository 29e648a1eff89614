//! `viridian adapter`.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Done, Place, plug};
use crate::cli::client::encoded;

/// Time limit of a configuration: the guest's daemon runs a script.
const LIMIT: Duration = Duration::from_secs(300);

/// The options of `viridian adapter`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

    #[command(subcommand)]
    action: Action,

    /// Print JSON: for one NAME, or a list
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

pub fn run(Arguments { place, action, json }: Arguments) -> Done {
    let machines = place.machines()?;
    match action {
        Action::List => plug::list(&machines, ("adapter", "adapters"), json, in_words),
        Action::Attach { net } => plug::attach(&machines, "/adapters", &net, json),
        Action::Detach { adapter } => plug::detach(&machines, "/adapters", &adapter, json),
        Action::Configure { adapter, dhcp, address, gateway, name_server } => {
            let body = json!({ "dhcp": dhcp, "addresses": address, "gateways": gateway, "name-servers": name_server });
            let path = format!("/adapters/{}/addresses", encoded(&adapter));
            plug::change(&machines, &adapter, json, |machine| machine.request("PUT", &path, Some(&body), LIMIT))
        }
        Action::Link { adapter, state } => {
            let state = json!(if let Link::Up = state { "up" } else { "down" });
            let path = format!("/devices/{}/link", encoded(&adapter));
            plug::change(&machines, &adapter, json, |machine| machine.post(&path, Some(&state)))
        }
    }
}

fn in_words(adapter: &Value) -> String {
    let text = |key: &str| adapter[key].as_str().unwrap_or("-");
    format!("{}  link {}", text("address"), text("link"))
}
