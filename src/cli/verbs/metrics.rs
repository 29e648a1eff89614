//! `viridian metrics`.

use super::{Done, ServiceSocket, print};

/// The options of `viridian metrics`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    service: ServiceSocket,
}

pub fn run(Arguments { service }: Arguments) -> Done {
    print(&service.service()?.text("/metrics")?)?;
    Ok(0)
}
