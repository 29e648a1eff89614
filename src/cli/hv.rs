//! `viridian hv`.

use viridian::hyperv::cpuid::Version;
use viridian::machine::config::hyperv::Hv;
use viridian::machine::interface::{Interface, Item, Offered};

/// What `viridian hv` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    /// As for run: +NAME,-NAME switches privileges and hints
    #[arg(long, value_name = "WHAT", allow_hyphen_values = true, default_value = "on")]
    hv: Hv,

    /// As for run: the version that the guest finds
    #[arg(long, value_name = "VERSION", default_value_t)]
    hv_version: Version,
}

/// Prints what each engine offers a guest on this host.
pub fn hv(arguments: Arguments) -> anyhow::Result<u8> {
    let interface = Interface::new(arguments.hv, arguments.hv_version);
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&interface)? + "\n",
        false => readable(&interface),
    };
    super::print(&text)?;
    Ok(0)
}

fn readable(interface: &Interface) -> String {
    let mut text = String::new();
    for engine in &interface.engines {
        match &engine.unavailable {
            Some(reason) => text += &format!("The {} engine cannot run: {reason}\n", engine.engine),
            None => text += &format!("The {} engine shows these CPUID leaves:\n", engine.engine),
        }
        for leaf in &engine.leaves {
            let [eax, ebx, ecx, edx] = leaf.registers;
            text += &format!("  {:#x}  {eax:08x} {ebx:08x} {ecx:08x} {edx:08x}  {}\n", leaf.function, leaf.name);
        }
        text += "\n";
    }
    for (title, items) in [
        ("Privileges, features and hints", &interface.features),
        ("MSRs", &interface.msrs),
        ("Hypercalls", &interface.hypercalls),
    ] {
        text += &format!("{title}\n");
        items.iter().for_each(|item| text += &line(item));
        text += "\n";
    }
    text
}

fn line(item: &Item) -> String {
    let mark = |offered: &Offered| if offered.offered { "yes" } else { "no" };
    let why = match (&item.user, &item.kernel) {
        (user, kernel) if user.why == kernel.why => user.why.clone(),
        (user, kernel) => format!("user: {}; kernel: {}", user.why, kernel.why),
    };
    let marks = format!("user {:3} kernel {:3}", mark(&item.user), mark(&item.kernel));
    format!("  {:52} {:22} {marks}  {why}\n", item.name, item.place)
}
