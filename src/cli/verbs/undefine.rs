//! `viridian undefine`.

use serde_json::json;

use super::{Done, ServiceSocket, failed, of_service, print_results};
use crate::cli::client::{PROMPT, encoded};

/// The options of `viridian undefine`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Names of machines that are stopped, several with commas, or patterns such as 'web*'
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Done {
    let service = arguments.service.service()?;
    let (names, is_one, mut code) = of_service(&service, &arguments.names)?;
    let mut removed = Vec::new();
    for name in &names {
        match service.request("DELETE", &format!("/machines/{}", encoded(name)), None, PROMPT) {
            Ok(_) => removed.push(json!({ "name": name })),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    if arguments.json {
        print_results(is_one, removed)?;
    }
    Ok(code)
}
