use super::*;

fn order(content: &str) -> Result<Vec<String>, String> {
    let partitions = parse(content).map_err(|problem| problem.to_string())?.partitions;
    Ok(partitions.into_iter().map(|partition| partition.config.name).collect())
}

#[track_caller]
fn refused(content: &str, words: &str) {
    let problem = order(content).unwrap_err();
    assert!(problem.contains(words), "{problem}");
}

#[test]
fn partitions_start_after_their_dependencies_and_otherwise_in_the_order_of_the_file() {
    let text = "[[partition]]\nname = 'c'\nafter = ['b', 'a']\n[[partition]]\nname = 'b'\nafter = ['a']\n\
                [[partition]]\nname = 'z'\n[[partition]]\nname = 'a'";
    assert_eq!(order(text).unwrap(), ["z", "a", "b", "c"]);
}

#[test]
fn a_partition_has_all_settings_of_a_machine() {
    let partitions =
        parse("[[partition]]\nname = 'a'\nmemory = '64M'\nnet = 'switch=lab'\ncpus = 2").unwrap().partitions;
    let config = &partitions[0].config;
    assert_eq!((config.memory.size.0, config.cpus.count, config.networks.len()), (64 << 20, 2, 1));
}

#[test]
fn the_error_for_circular_dependencies_names_only_the_partitions_of_the_circle() {
    let text = "[[partition]]\nname = 'd'\nafter = ['a']\n[[partition]]\nname = 'a'\nafter = ['b']\n\
                [[partition]]\nname = 'b'\nafter = ['c']\n[[partition]]\nname = 'c'\nafter = ['a']";
    refused(text, "none would start: a, b, c");
    refused("[[partition]]\nname = 'a'\nafter = ['a']", "none would start: a");
}

#[test]
fn a_file_for_one_machine_is_refused_with_the_command_that_runs_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "memory = '1G'\ncpus = 2").unwrap();
    let refused = Fleet::load(file.path()).unwrap_err().to_string();
    assert!(refused.contains(&format!("run it with: viridian run --config {},", file.path().display())), "{refused}");
}

#[test]
fn a_file_without_a_usable_fleet_is_refused() {
    refused("", "no [[partition]]");
    refused("[[partitions]]", "line 1, column 3: unknown key `partitions`; did you mean `partition`?");
    refused("memory = '1G'\ncpus = 2", "no [[partition]]");
    refused("partition = 3", "[[partition]]");
    refused(
        "[[partition]]\nname = 'a'\n\nmemory = ['1G']",
        "line 4, column 10: a: memory: expected a string or a table",
    );
    refused("[[partition]]\nmemory = '1G'", "number 1 has no name");
    refused("[[partition]]\nname = ''", "number 1 has no name");
    refused("[[partition]]\nname = 'a'\n[[partition]]\nname = 'a'", "two partitions are called a");
    refused("[[partition]]\nname = 'a'\nafter = ['b']", "after b, which does not exist");
    refused(
        "[[partition]]\nname = 'a'\nmemroy = '1G'",
        "line 3, column 1: a: unknown key `memroy`; did you mean `memory`?",
    );
    refused("[[partition]]\nname = 'a'\nafter = 'b'", "a: ");
    let same = "net = 'switch=lab,mac=02:00:00:00:00:01'";
    let text = format!("[[partition]]\nname = 'a'\n{same}\n[[partition]]\nname = 'b'\n{same}");
    refused(&text, "adapter 0 of a and adapter 0 of b both have the address");
}

#[test]
fn one_partition_may_write_a_file_and_several_may_write_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lab.toml");
    let load = |one: &str, other: &str| {
        let text = format!("[[partition]]\nname = 'a'\n{one}\n[[partition]]\nname = 'b'\n{other}");
        std::fs::write(&path, text).unwrap();
        Fleet::load(&path).map(drop).map_err(|error| error.to_string())
    };
    let error = load("console = 'file:log'", "net = 'none,pcap=log'").unwrap_err();
    assert!(error.contains("a and b both write") && error.contains("log; give one of them another"), "{error}");
    assert!(load("console = 'unix:log'", "trace = 'msr=log'").is_err());
    assert!(load("screenshot-at-end = 'log'", "console = 'file:log'").is_err());
    assert!(load("console-at-end = 'log'", "console = 'file:log'").is_err());
    load("console = 'file:log'", "console = 'file:log2'").unwrap();
    load("console = 'file:/dev/null'", "console = 'file:/dev/null'").unwrap();
}

#[test]
fn machines_share_a_budget_by_weight() {
    let machine = |name: &str, more: &str| format!("[[partition]]\nname = '{name}'\nmemory = '1G,max=2G'\n{more}\n");
    let text = format!("memory-budget = '3G'\n{}{}", machine("a", "weight = 300"), machine("b", ""));
    let description = parse(&text).unwrap();
    assert_eq!(description.budget, Some(3 << 30));
    assert_eq!(description.partitions.iter().map(|partition| partition.weight).collect::<Vec<_>>(), [300, 100]);
    assert_eq!(parse(&machine("a", "")).unwrap().budget, None);
    refused(&format!("memory-budget = '1536M'\n{}{}", machine("a", ""), machine("b", "")), "1536M is less than the 2G");
    refused(&machine("a", "weight = 0"), "a: weight = 0 is not between 1 and 10000");
    refused(&machine("a", "weight = 10001"), "not between");
    refused(&machine("a", "weight = 'much'"), "a: ");
    refused(&format!("memory-budget = 'much'\n{}", machine("a", "")), "`much` is not a size");
}
