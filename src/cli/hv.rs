//! `viridian hv`.

use viridian::config::Hv;
use viridian::config::HypervisorVersion;
use viridian::machine::interface::EngineKind;
use viridian::machine::interface::{EngineReport, Interface, Item};

/// The options of `viridian hv`.
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
    hv_version: HypervisorVersion,
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

/// Maximum length of the report's lines.
const WIDTH: usize = 100;

fn readable(interface: &Interface) -> String {
    let mut text = String::new();
    for engine in &interface.engines {
        match &engine.unavailable {
            Some(reason) => text += &wrapped(&format!("The {} engine cannot run: {reason}", engine.engine), "", "    "),
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
        text += &format!("{title:78} user kernel\n");
        items.iter().for_each(|item| text += &line(item, &interface.engines));
        text += "\n";
    }
    text
}

/// Formats one item, followed by the engines' reasons unless it is simply offered.
fn line(item: &Item, engines: &[EngineReport]) -> String {
    let runs = |engine| engines.iter().any(|report| report.engine == engine && report.unavailable.is_none());
    let mut marks = Vec::new();
    let mut reasons: Vec<(&str, &str)> = Vec::new();
    for (engine, name, offered) in
        [(EngineKind::User, "user", &item.user), (EngineKind::Kernel, "kernel", &item.kernel)]
    {
        marks.push(match (runs(engine), offered.offered) {
            // The reason is printed once, above.
            (false, _) => "-",
            (true, true) => "yes",
            (true, false) => "no",
        });
        if runs(engine) && offered.why != "offered" {
            reasons.push((name, &offered.why));
        }
    }
    let text = format!("  {:52} {:23} {:4} {}\n", item.name, item.place, marks[0], marks[1]);
    let why = match reasons[..] {
        [] => return text,
        [(_, one), (_, other)] if one == other => one.to_owned(),
        [(_, one)] if marks.contains(&"-") => one.to_owned(),
        _ => reasons.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "),
    };
    text + &wrapped(&why, "      ", "      ")
}

/// Breaks the text into lines, between words.
fn wrapped(text: &str, first_indent: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), first_indent.to_owned());
    for word in text.split(' ') {
        if line.trim_start().is_empty() {
            line += word;
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line += " ";
            line += word;
        } else {
            lines += &line;
            lines += "\n";
            line = format!("{indent}{word}");
        }
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_between_words() {
        let text = wrapped(&["word"; 60].join(" "), "  ", "    ");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 60);
        assert!(text.starts_with("  word") && text.contains("\n    word"), "{text}");
        assert_eq!(wrapped(&"x".repeat(200), "", "").len(), 201, "a word stays whole");
    }

    #[test]
    fn no_line_of_the_report_is_too_long_and_no_reason_of_an_engine_is_repeated() {
        let text = readable(&Interface::new(Hv::default(), HypervisorVersion::default()));
        let longest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= WIDTH, "{longest}");
        assert!(text.matches("cannot run").count() <= 2, "{text}");
        assert!(text.matches("lacks KVM_CAP_HYPERV,").count() <= 1, "{text}");
        assert!(text.contains("AccessSynicRegs") && text.contains("HvCallPostMessage"), "{text}");
    }
}
