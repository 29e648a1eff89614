//! `viridian metrics`.

use super::{Done, ServiceSocket, print};
use crate::cli::client::encoded;

/// The options of `viridian metrics`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A running machine: its exits, disks, adapters and rings, instead of a summary of all machines
    name: Option<String>,

    #[command(flatten)]
    service: ServiceSocket,
}

pub fn run(Arguments { name, service }: Arguments) -> Done {
    let path = name.map_or("/metrics".into(), |name| format!("/machines/{}/metrics", encoded(&name)));
    print(&service.service()?.text(&path)?)?;
    Ok(0)
}
