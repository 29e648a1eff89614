//! `viridian definition`.

use serde_json::json;

use super::{Done, ServiceSocket, defined_of, failed, print, print_results};
use crate::cli::client::encoded;

/// The options of `viridian definition`.
#[derive(clap::Args)]
#[command(after_help = "\
The text of one machine is printed as viridian define has taken it, so that it can be edited and defined again. Those of several have a
comment with the name before them.")]
pub struct Arguments {
    /// Names of machines of the service, several with commas, or patterns such as 'web*'
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: an object for one NAME, else a list
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { names, service, json }: Arguments) -> Done {
    let service = service.service()?;
    let (names, is_one, mut code) = defined_of(&service, &names)?;
    let mut values = Vec::new();
    for name in &names {
        match service.text(&format!("/machines/{}/definition", encoded(name))) {
            Ok(text) if json => values.push(json!({ "name": name, "definition": text })),
            Ok(text) if is_one => print(&text)?,
            Ok(text) => print(&format!("# {name}\n{}\n\n", text.trim_end()))?,
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    if json {
        print_results(is_one, values)?;
    }
    Ok(code)
}
