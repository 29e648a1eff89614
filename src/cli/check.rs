//! `viridian check`.

use viridian::machine::check::Need;
use viridian::machine::check::Report;
use viridian::machine::code;

/// The options of `viridian check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the report. The exit code says whether a machine can run.
pub fn check(arguments: Arguments) -> anyhow::Result<u8> {
    let report = Report::new();
    let text = if arguments.json { serde_json::to_string_pretty(&report)? + "\n" } else { readable(&report) };
    super::print(&text)?;
    if report.usable {
        return Ok(0);
    }
    super::say!("{}", report.reason);
    Ok(code::NO_KVM)
}

fn readable(report: &Report) -> String {
    let mut text = format!("host kernel  {}\n", report.kernel);
    if let Some(max) = report.max_vps {
        text += &format!("VPs          up to {max} in one machine\n");
    }
    text += &match report.engine {
        Some(engine) => format!("engine       {engine} ({})\n", report.reason),
        None => "engine       none\n".into(),
    };
    for (need, title) in [
        (Need::Machine, "every machine needs"),
        (Need::KernelEngine, "the kernel engine needs"),
        (Need::UserEngine, "the user engine needs"),
        (Need::Comfort, "guests can do without"),
    ] {
        let findings: Vec<_> = report.capabilities.iter().filter(|finding| finding.need == need).collect();
        if !findings.is_empty() {
            text += &format!("\n{title}\n");
        }
        for finding in findings {
            let mark = if finding.present { "yes" } else { "NO" };
            text += &format!("  {mark:3}  {:30} {}\n", finding.name, finding.purpose);
        }
    }
    text
}
