use super::*;
use clap::{Args, Command, FromArgMatches};

/// Parses options as the command line does: over `base`.
fn parse(base: Config, options: &[&str]) -> Result<Config, clap::Error> {
    let command = Config::augment_args_for_update(Command::new("test").no_binary_name(true));
    let mut config = base;
    config.update_from_arg_matches(&command.try_get_matches_from(options)?)?;
    Ok(config)
}

fn load(content: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.toml");
    std::fs::write(&path, content).unwrap();
    let mut config =
        Config::load(&path).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "vm.toml"))?;
    // Undo the folder, which has another name in every run.
    if let Some(initrd) = &mut config.initrd {
        *initrd = initrd.strip_prefix(folder.path()).unwrap_or(initrd).to_owned();
    }
    Ok(config)
}

#[test]
fn a_file_and_a_command_line_say_the_same() {
    let options = parse(
        Config::default(),
        &["--memory=1G,hugepages=on", "--cpus=4,threads=2", "--timeout=2.5", "--console=none", "--on-reset=restart"],
    );
    let file = load(
        "memory = '1G,hugepages=on'\ncpus = { count = 4, threads = 2 }\ntimeout = 2.5\nconsole = 'none'\non-reset = 'restart'",
    );
    assert_eq!(options.unwrap(), file.unwrap());
}

#[test]
fn what_is_dumped_reads_back_the_same() {
    let config = parse(
        Config::default(),
        &[
            "--kernel=flat:/k@0x1000,mode=64",
            "--initrd=/i",
            "--cmdline=a \"b\"",
            "--cpus=2,affinity=0-1",
            "--engine=user",
            "--vmbus-max-version=4.1",
            "--trace=vmbus,msr=/t",
        ],
    )
    .unwrap();
    assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
    assert_eq!(load(&Config::default().to_toml().unwrap()).unwrap(), Config::default());
}

#[test]
fn options_override_the_file_and_leave_the_rest_of_it() {
    let file = load("memory = '1G'\ncmdline = 'quiet'").unwrap();
    let config = parse(file, &["--memory=64M"]).unwrap();
    assert_eq!((config.memory.size, config.cmdline.as_str()), (Size(64 << 20), "quiet"));
}

#[test]
fn an_unknown_key_in_a_file_is_named_with_its_line_and_the_nearest_known() {
    assert_eq!(
        load("name = 'x'\nkernal = 'y'").unwrap_err(),
        "vm.toml:2: unknown key `kernal`; did you mean `kernel`?"
    );
    assert_eq!(load("[memory]\nsiz = '1G'").unwrap_err(), "vm.toml:2: unknown key `siz`; did you mean `size`?");
    assert!(load("engine = 'usr'").unwrap_err().ends_with("unknown value `usr`; did you mean `user`?"));
    assert!(load("memory = ").unwrap_err().starts_with("vm.toml:1: "));
    assert!(load("timeout = -1").unwrap_err().contains("seconds above 0"));
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.toml");
    std::fs::write(&path, "kernel = 'k'\ninitrd = '/abs'\nconsole = 'file:log'").unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.kernel, Some(KernelSource::File(folder.path().join("k"))));
    assert_eq!(config.initrd, Some("/abs".into()));
    assert_eq!(config.console, ConsoleConfig::File(folder.path().join("log")));
}

#[test]
fn the_help_names_every_setting_and_every_field_of_those_that_have_several() {
    let mut command = Config::augment_args(Command::new("test"));
    let help = command.render_long_help().to_string();
    let all = Config { memory: Memory::default(), ..Config::default() };
    for setting in toml::Table::try_from(&all).unwrap().keys() {
        assert!(help.contains(&format!("--{setting}")), "{setting}");
    }
    for field in ["hugepages=", "sockets=", "cores=", "threads=", "affinity="] {
        assert!(help.contains(field), "{field}");
    }
}
