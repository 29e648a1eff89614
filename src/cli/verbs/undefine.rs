//! `viridian undefine`.

use super::{Done, ServiceSocket, failed};
use crate::cli::client::{PROMPT, encoded};

/// The options of `viridian undefine`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names of machines that are stopped
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    #[command(flatten)]
    service: ServiceSocket,
}

pub fn run(arguments: Arguments) -> Done {
    let service = arguments.service.service()?;
    let mut code = 0;
    for name in &arguments.names {
        if let Err(failure) = service.request("DELETE", &format!("/machines/{}", encoded(name)), None, PROMPT) {
            code = code.max(failed(Some(name), &failure));
        }
    }
    Ok(code)
}
