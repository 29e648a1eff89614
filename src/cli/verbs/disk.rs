//! `viridian disk`.

use serde_json::{Value, json};
use viridian::config::Size;

use super::{Done, Place, plug};
use crate::cli::client::encoded;

/// The options of `viridian disk`.
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

#[derive(clap::Subcommand)]
enum Action {
    /// List the disks
    List,
    /// Attach a disk, and print its name
    Attach {
        /// As for run --disk
        #[arg(value_name = "PATH[,OPTIONS]")]
        disk: String,
    },
    /// Make a disk larger: its raw image grows, and the guest notices
    Resize {
        /// The name, such as disk0.1
        disk: String,

        /// The new size, such as 20G
        size: Size,
    },
    /// Detach a disk, even if the guest uses it
    Detach {
        /// The name, such as disk0.1
        disk: String,
    },
}

pub fn run(Arguments { place, action, json }: Arguments) -> Done {
    let machines = place.machines()?;
    match action {
        Action::List => plug::list(&machines, ("disk", "disks"), json, in_words),
        Action::Attach { disk } => plug::attach(&machines, "/disks", &disk, json),
        Action::Resize { disk, size } => {
            let path = format!("/disks/{}/resize", encoded(&disk));
            let body = json!({ "size": size.0 });
            plug::change(&machines, &disk, json, |machine| machine.post(&path, Some(&body)))
        }
        Action::Detach { disk } => plug::detach(&machines, "/disks", &disk, json),
    }
}

fn in_words(disk: &Value) -> String {
    let medium = &disk["medium"];
    match medium["size-bytes"].as_u64() {
        Some(bytes) if medium["read-only"] == true => format!("{} MiB, read-only", bytes >> 20),
        Some(bytes) => format!("{} MiB", bytes >> 20),
        None => "no medium".into(),
    }
}
