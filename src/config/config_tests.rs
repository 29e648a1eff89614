use super::*;
use clap::{Args, Command, FromArgMatches};

/// Parses options as the command line does. They override `base`.
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
    // Remove the folder's name, which differs in every run.
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
fn disks_are_options_given_several_times_and_strings_or_tables_of_a_file() {
    let options = ["--disk=/root.img,sector=4096", "--disk", "path=memory:1G,controller=1,lun=5", "--disk=media=dvd"];
    let options = parse(Config::default(), &options).unwrap();
    assert_eq!(options.disks.len(), 3);
    let tables = "[[disk]]\npath = '/root.img'\nsector = 4096\n[[disk]]\npath = 'memory:1G'\ncontroller = 1\nlun = 5\n\
                  [[disk]]\nmedia = 'dvd'";
    assert_eq!(load(tables).unwrap(), options);
    let strings = "disk = ['/root.img,sector=4096', 'path=memory:1G,controller=1,lun=5', { media = 'dvd' }]";
    assert_eq!(load(strings).unwrap(), options);
    let one = load("disk = 'memory:1G'").unwrap();
    assert_eq!(one, parse(Config::default(), &["--disk=memory:1G"]).unwrap());
    assert_eq!(parse(options, &["--disk=memory:1G"]).unwrap(), one);
    assert!(load("disk = 'x,lum=3'").unwrap_err().contains("did you mean `lun`?"));
    assert!(load("[[disk]]\npath = 'x'\ncach = 'none'").unwrap_err().contains("did you mean `cache`?"));
}

#[test]
fn dumped_settings_parse_to_the_same_settings() {
    let config = parse(
        Config::default(),
        &[
            "--kernel=flat:/k@0x1000,mode=64",
            "--initrd=/i",
            "--cmdline=a \"b\"",
            "--cpus=2,affinity=0-1",
            "--engine=user",
            "--vmbus-max-version=4.1",
            "--trace=vmbus,storage,msr=/t",
            "--disk=path=/a,,b.img,readonly=on,cache=none,serial=S 1,sector=4096,discard=off,format=raw,controller=1,lun=5",
            "--disk=memory:1G",
            "--disk=media=dvd",
            "--net=user,fwd=tcp:8080:80,fwd=udp:0.0.0.0:53:53,mac=02:00:00:00:00:01,mtu=9000,queues=4,pcap=/c",
            "--net=switch=lab,uplink=user",
            "--net=tap=tap0",
            "--net=none",
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
        "vm.toml:2:1: unknown key `kernal`; did you mean `kernel`?"
    );
    let error = load("[memory]\nsiz = '1G'").unwrap_err();
    assert!(
        error.starts_with("vm.toml:2:1: ") && error.ends_with("unknown key `siz`; did you mean `size`?"),
        "{error}"
    );
    assert!(load("engine = 'usr'").unwrap_err().ends_with("unknown value `usr`; did you mean `user`?"));
    assert!(load("memory = ").unwrap_err().starts_with("vm.toml:1:10: "));
    assert!(load("timeout = -1").unwrap_err().contains("seconds above 0"));
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.toml");
    std::fs::write(
        &path,
        "kernel = 'k'\ninitrd = '/abs'\nconsole = 'file:log'\nscreenshot-at-end = 'last.png'\nconsole-at-end = 'last'\ndisk = ['a.img', '/b.img', 'memory:1M']",
    )
    .unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.kernel, Some(KernelSource::File(folder.path().join("k"))));
    assert_eq!(config.initrd, Some("/abs".into()));
    assert_eq!(config.console, ConsoleConfig::File(folder.path().join("log")));
    assert_eq!(config.screenshot_at_end, Some(folder.path().join("last.png")));
    assert_eq!(config.console_at_end, Some(folder.path().join("last")));
    let disks: Vec<_> = config.disks.into_iter().map(|disk| disk.path).collect();
    assert_eq!(disks, [folder.path().join("a.img"), "/b.img".into(), "memory:1M".into()]);
}

#[test]
fn the_help_names_every_setting_and_every_field_of_those_that_have_several() {
    let mut command = Config::augment_args(Command::new("test"));
    let help = command.render_long_help().to_string();
    let all = Config { memory: Memory::default(), disks: vec![DiskConfig::default()], ..Config::default() };
    for setting in toml::Table::try_from(&all).unwrap().keys() {
        assert!(help.contains(&format!("--{setting}")), "{setting}");
    }
    for field in [
        "hugepages=",
        "sockets=",
        "cores=",
        "threads=",
        "affinity=",
        "memory:",
        "readonly=",
        "backing=",
        "lun=",
        "mac=",
        "fwd=",
    ] {
        assert!(help.contains(field), "{field}");
    }
}

#[test]
fn any_duration_is_converted_to_a_positive_time() {
    assert_eq!(Seconds::from(Duration::from_millis(1500)).duration(), Duration::from_millis(1500));
    assert_eq!(Seconds::from(Duration::ZERO).duration(), Duration::from_nanos(1));
    assert!(Seconds::from(Duration::MAX).duration() > Duration::from_secs(1_000_000_000));
}
