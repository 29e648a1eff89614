//! `viridian completion` and `viridian man`, both made from the definitions of the commands.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, Command, Wrong, say};

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
    let script = String::from_utf8(script).context("the script is no text")?;
    super::print(&with_machines(arguments.shell, script))?;
    Ok(0)
}

/// Adds the names of machines to a script. They are those of the service that the options on the command line name.
fn with_machines(shell: Shell, script: String) -> String {
    let commands = commands();
    let takes_name = |command: &&clap::Command| {
        let first = command.get_positionals().next().map(|argument| argument.get_id().as_str());
        matches!(first, Some("name" | "names"))
    };
    let verbs: Vec<_> = commands.get_subcommands().filter(takes_name).map(clap::Command::get_name).collect();
    match shell {
        Shell::Bash => script + &BASH.replace("@VERBS@", &verbs.join("|")),
        Shell::Fish => script + &FISH.replace("@VERBS@", &verbs.join(" ")),
        Shell::Zsh => {
            let is_name = |line: &&str| line.contains("names -- ") || line.contains(":name -- ");
            let line = |line: &str| match line.strip_suffix(":_default' \\") {
                Some(start) if is_name(&line) => format!("{start}:_viridian_machines' \\\n"),
                _ => format!("{line}\n"),
            };
            let lines: String = script.lines().map(line).collect();
            lines.replacen("#compdef viridian\n", &format!("#compdef viridian\n{ZSH}"), 1)
        }
        _ => script,
    }
}

/// Completion in bash. Names are completed where a verb takes some, unless an option before them waits for its value.
const BASH: &str = r#"
_viridian_machines() {
    local -a words options=()
    local i
    read -ra words <<<"${COMP_LINE:0:${COMP_POINT:-${#COMP_LINE}}}"
    for ((i = 1; i < ${#words[@]}; i++)); do
        case ${words[i]} in
            --host | --token-file | --ca | --fingerprint | --client) options+=("${words[i]}" "${words[i + 1]:-}") ;;
            --host=* | --token-file=* | --ca=* | --fingerprint=* | --client=*) options+=("${words[i]}") ;;
        esac
    done
    viridian names "${options[@]}" 2>/dev/null
}

_viridian_with_machines() {
    local i name verb=
    local -a names=()
    _viridian "$@"
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            @VERBS@) verb=${COMP_WORDS[i]} && break ;;
        esac
    done
    [[ -n $verb && $2 != -* ]] || return 0
    case $3 in
        --host | --token-file | --ca | --fingerprint | --client | --service | = | :) return 0 ;;
    esac
    while IFS= read -r name; do
        [[ $name == "$2"* ]] && names+=("$name")
    done < <(_viridian_machines)
    ((${#names[@]} == 0)) || COMPREPLY=("${names[@]}")
}
complete -F _viridian_with_machines -o bashdefault -o default viridian
"#;

/// Completion in zsh.
const ZSH: &str = r#"
_viridian_machines() {
    local -a options found
    local i
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
            --host | --token-file | --ca | --fingerprint | --client) options+=("${(Q)words[i]}" "${(Q)words[i + 1]}") ;;
            --host=* | --token-file=* | --ca=* | --fingerprint=* | --client=*) options+=("${(Q)words[i]}") ;;
        esac
    done
    found=(${(f)"$(viridian names $options 2>/dev/null)"})
    compadd -a found
}

"#;

/// Completion in fish.
const FISH: &str = r#"
function __fish_viridian_machines
    set -l words (commandline -opc)
    set -l options
    for i in (seq (count $words))
        switch $words[$i]
            case --host --token-file --ca --fingerprint --client
                set -a options $words[$i] $words[(math $i + 1)]
            case '--host=*' '--token-file=*' '--ca=*' '--fingerprint=*' '--client=*'
                set -a options $words[$i]
        end
    end
    viridian names $options 2>/dev/null
end
complete -c viridian -n "__fish_viridian_using_subcommand @VERBS@" -f -a "(__fish_viridian_machines)"
"#;

/// Writes the pages of the manual.
pub fn man(arguments: &ManArguments) -> anyhow::Result<u8> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(commands(), directory))
        .with_context(|| format!("cannot write the manual to {}", directory.display()))
        .context(Wrong("DIR"))?;
    say!("the manual is in {}: man -l {}", directory.display(), directory.join("viridian.1").display());
    Ok(0)
}
