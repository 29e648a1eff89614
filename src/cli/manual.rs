//! `viridian completion` and `viridian man`, both made from the definitions of the commands.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, Command, say};

/// The arguments of `viridian completion`.
#[derive(clap::Args)]
pub struct CompletionArguments {
    /// The shell
    shell: Shell,
}

/// The arguments of `viridian man`.
#[derive(clap::Args)]
pub struct ManArguments {
    /// The directory for the pages, such as /usr/local/share/man/man1; it is made if it is not there
    directory: PathBuf,
}

fn commands() -> clap::Command {
    Arguments::<Command>::command()
}

/// Prints the completion script of a shell.
pub fn completion(arguments: &CompletionArguments) -> anyhow::Result<u8> {
    let (mut commands, mut script) = (commands(), Vec::new());
    let name = commands.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut commands, name, &mut script);
    super::print(&String::from_utf8(script).context("the script is no text")?)?;
    Ok(0)
}

/// Writes the pages of the manual.
pub fn man(arguments: &ManArguments) -> anyhow::Result<u8> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(commands(), directory))
        .with_context(|| format!("cannot write the manual to {}", directory.display()))?;
    say!("the manual is in {}: man -l {}", directory.display(), directory.join("viridian.1").display());
    Ok(0)
}
