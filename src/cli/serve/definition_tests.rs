use std::fs;

use viridian::config::Size;

use super::super::resources::{Percent, Weight};
use super::super::written::{MAX_NAME, check_name};
use super::*;

fn parse(text: &str) -> Result<Definition, Problem> {
    let folder = tempfile::tempdir().unwrap();
    let parsed = Definition::parse(text, &folder.path().join("scratch"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
    parsed
}

#[track_caller]
fn refused(text: &str, place: Option<&str>, words: &str) {
    let problem = parse(text).unwrap_err();
    assert_eq!((problem.status, problem.place.as_deref()), (400, place), "{problem:?}");
    assert!(problem.message.contains(words), "{problem:?}");
}

#[test]
fn a_definition_is_a_settings_file_with_a_table_for_the_service() {
    let plain = parse("kernel = \"/boot/vmlinuz\"\n").unwrap();
    assert_eq!(plain.treatment, Treatment::default());
    let text = "# Shop\n[service]\nautostart = true\nrestart = \"on-failure\"\n\n[memory]\nsize = \"64M\"\n";
    let whole = parse(text).unwrap();
    assert_eq!(
        whole.treatment,
        Treatment { autostart: Autostart::Always, restart: Restart::OnFailure, ..Treatment::default() }
    );
    assert_eq!(whole.text, text);
    assert!(whole.config.to_toml().unwrap().contains("64M"), "{}", whole.config.to_toml().unwrap());
    let inline = parse("service = { restart = \"always\" }\ncmdline = '''\n[service]\n'''\n").unwrap();
    assert_eq!((inline.treatment.restart, &*inline.config.cmdline), (Restart::Always, "[service]\n"));
    let shares = "[service]\ncpu = { weight = 300, limit = \"150%\" }\n[service.memory]\nlimit = \"1G\"\n";
    let resources = parse(shares).unwrap().treatment.resources();
    assert_eq!((resources.cpu.weight, resources.cpu.limit), (Weight(300), Some(Percent(150))));
    assert_eq!(resources.memory, Memory { limit: Some(Size(1 << 30)), ..Memory::default() });
    let start =
        parse("[service]\nautostart = \"if-running\"\nstart-order = 2\nstart-delay = 30\nhost-stop = \"turn-off\"\n");
    let start = start.unwrap().treatment;
    assert_eq!((start.autostart, start.start_order, start.start_delay), (Autostart::IfRunning, 2, 30));
    assert_eq!(start.host_stop, HostStop::TurnOff);
    let stop = |word: &str| parse(&format!("[service]\nhost-stop = \"{word}\"\n")).unwrap().treatment.host_stop;
    assert_eq!(["hibernate", "shut-down"].map(stop), [HostStop::Hibernate, HostStop::ShutDown]);
    assert!(parse("").is_ok(), "the embedded guest");
}

#[test]
fn a_definition_of_several_machines_is_a_lab_with_one_table_for_the_service() {
    let text = "[service]\nrestart = \"always\"\n\n[[partition]]\nname = \"a\"\nmemory = \"64M\"\n[[partition]]\nname = \"b\"\n";
    let lab = parse(text).unwrap();
    assert_eq!((lab.treatment.restart, lab.startup_bytes()), (Restart::Always, (64 + 256) << 20));
    let members = lab.members("shop").unwrap();
    assert_eq!(members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["shop.a", "shop.b"]);
    assert!(members.iter().all(|(_, own)| own.treatment.restart == Restart::Never && own.lab.is_none()));
    assert!(parse("memory = \"64M\"\n").unwrap().members("web").is_none());
}

#[test]
fn mistakes_are_refused_with_their_places() {
    refused("kernel = ", Some("line 1, column 10"), "");
    refused("\nmemroy = \"1G\"\n", Some("line 2, column 1"), "memory");
    refused("[service]\nautostart = 1\n", Some("line 2, column 13"), "expected a boolean or \"if-running\"");
    refused("[service]\nautostart = \"often\"\n", Some("line 2, column 13"), "expected a boolean or \"if-running\"");
    refused("[service]\nhost-stop = \"save\"\n", Some("line 2, column 13"), "with \"hibernate\", the guest saves");
    refused("[service]\nhost-stop = \"off\"\n", Some("line 2, column 13"), "\"turn-off\" or \"hibernate\"");
    refused("[service]\nstart-delay = 86401\n", Some("the table service"), "more than 86400 seconds");
    refused("[service]\nrestart = \"sometimes\"\n", Some("line 2, column 11"), "unknown variant");
    refused("[service]\n\nauto = true\n", Some("line 3, column 1"), "unknown field");
    refused("[service]\ncpu = { weight = 0 }\n", Some("line 2, column 18"), "a weight from 1 to 10000");
    refused("[service]\ncpu = { limit = \"25\" }\n", Some("line 2, column 17"), "\"150%\"");
    refused("[service.cpu]\nreserve = \"9%\"\nlimit = \"8%\"\n", Some("the table service"), "more than the limit 8%");
    refused("[service]\nautostart = true\n[memory]\nsize = \"much\"\n", Some("line 4, column 8"), "much");
    refused("[service]\nautostart = true\n[services]\nsinging = \"on\"\n", Some("line 4, column 1"), "singing");
    refused(&format!("a = {}", "[".repeat(60_000)), Some("line 1, column 85"), "recurs");
    refused(&format!("{}a = 1", "a.".repeat(30_000)), Some("line 1, column 1"), "recurs");
    refused("[[partition]]\nname = \"a\"\nmemroy = 1\n", Some("line 3, column 1"), "a: unknown key");
    refused("kernel = \"vmlinuz\"\n", None, "\"vmlinuz\" is relative");
    refused("[[disk]]\npath = \"a/b.img\"\n", None, "\"a/b.img\" is relative");
    assert_eq!(parse(&"#".repeat(MAX_LENGTH + 1)).unwrap_err().status, 413);
}

#[test]
fn names_of_machines_are_valid_file_names() {
    for right in ["web", "7", "a.b-c_D", &"x".repeat(MAX_NAME)] {
        assert!(check_name(right).is_ok(), "{right}");
    }
    for wrong in ["", ".", "..", ".a", "-a", "a/b", "a b", "ü", "a\0", &"x".repeat(MAX_NAME + 1)] {
        assert_eq!(check_name(wrong).unwrap_err().status, 400, "{wrong}");
    }
}
